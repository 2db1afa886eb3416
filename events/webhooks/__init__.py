"""What happens on a brand, told to addresses of its own: signed, repeated, and never at the cost of others.

`queueing` makes deliveries of events, `sending` sends them, `outcomes` writes down how that went, `endpoints` and `replaying`
are what the brand's admins do.
"""
