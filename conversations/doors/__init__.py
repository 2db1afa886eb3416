"""`/v1`: programs that speak OpenAI's or Anthropic's protocol get the same engine, meter and walls, each in its own shape.

exchange.py is the life of a program's call, fields.py what every body goes through, errors.py the vendors' error shapes;
a module per address does the rest.
"""
