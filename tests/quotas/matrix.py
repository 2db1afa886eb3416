"""Who pays, plan by plan and pocket by pocket, written by hand from the seeds; where a seed names no number, ours is marked.

One line for each plan of the four catalogues: the meter that counts (its unit), how many and in which window, and who pays
for the next question when

    room      the plan has room for it
    spent     its own units are used up, and nothing else is there
    pack      they are used up, and a pack of 10 units was bought
    charged   they are used up, and the member has stored a card and allowed extra
    key       they are used up, and the member has an own key for the model

None = nobody: it is refused, and nothing is held.
"""

STATES = ("room", "spent", "pack", "charged", "key")
# fmt: off
PLANS = {
    # S1, "Pricing Tiers": overage "not allowed" on free, $0.025 a query on the others; BYOK "not available" on free.
    ("s1", "free"):          ("queries",       10,    "lifetime", ("plan"   , None     , "pack"   , None     , None)),
    ("s1", "basic"):         ("queries",       15,    "day",      ("plan"   , None     , "pack"   , "overage", "own_key")),
    ("s1", "pro"):           ("queries",       40,    "day",      ("plan"   , None     , "pack"   , "overage", "own_key")),
    # "Quota: 0 included. Pay-per-use": with a card the plan itself is the choice to pay.
    ("s1", "usage_only"):    ("queries",       0,     "month",    (None     , None     , "pack"   , "overage", "own_key")),
    # S2, `conversations_limit`: 5 for free; the other numbers are ours. It knows neither overage nor own keys.
    ("s2", "free"):          ("conversations", 5,     "month",    ("plan"   , None     , "pack"   , None     , None)),
    ("s2", "starter"):       ("conversations", 50,    "month",    ("plan"   , None     , "pack"   , None     , None)),
    ("s2", "pro"):           ("conversations", 200,   "month",    ("plan"   , None     , "pack"   , None     , None)),
    ("s2", "business"):      ("conversations", 1000,  "month",    ("plan"   , None     , "pack"   , None     , None)),
    # S3, `monthly_message_limit`: the numbers are ours, and that the two larger plans allow own keys.
    ("s3", "free"):          ("messages",      50,    "month",    ("plan"   , None     , "pack"   , None     , None)),
    ("s3", "starter"):       ("messages",      1000,  "month",    ("plan"   , None     , "pack"   , None     , None)),
    ("s3", "professional"):  ("messages",      5000,  "month",    ("plan"   , None     , "pack"   , None     , "own_key")),
    ("s3", "enterprise"):    ("messages",      25000, "month",    ("plan"   , None     , "pack"   , None     , "own_key")),
    # S0: no limit of the member's own, one pool of tokens for the brand. What is spent there is the pool: no pack of the
    # member's helps.
    ("s0", "pooled"):        ("queries",       None,  "day",      ("plan"   , None     , None     , None     , None)),
}
# How a turn may end, and whether a piece had arrived by then: then, and only then, it counts (S1 "successful queries" and
# RELIABILITY ).
OUTCOMES = {
    "done":                True,
    "stopped":             True,
    "stopped before":      False,
    "failed before":       False,
    "cut off":             True,
    "crashed with text":   True,
    "crashed before":      False,
    "never begun":         False,
}
PRICE_MICROUSD = 25_000  # S1: $0.025 per query
# fmt: on
