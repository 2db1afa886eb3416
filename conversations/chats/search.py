"""Search over a person's own titles and messages: what was typed becomes words, and words become places in chats.

The words of each text are kept by the database (ADR 9). A search walks the person's own rows, newest first, and ranks only
what it found of them: a chat whose title has the words, then one where they stand together, then the others, each newest
first. What is in the bin, of another person, or on a version that is not shown is never found.
"""

import difflib
import re
from collections import namedtuple
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.db import connections
from django.utils.translation import gettext as _

from conversations.chats.excerpts import excerpt, marked
from lib.db import Principal, current_alias, send
from lib.errors import Invalid
from lib.folding import words

MOST_CHARACTERS = 300
MOST_WORDS = 24
MOST_HITS = 300  # messages, newest first, that are ranked; who wants older ones says more
PAGE = 20
READ = 200_000  # characters of a text, as many as are kept as words
MOST_TEXTS = 3000  # whose words are compared when nothing was found
MOST_OWN_WORDS = 30_000
LEAST_MISSPELT = 4  # letters
TERM = re.compile(r'(-?)"([^"]*)"?|(-?)([^\s"]+)')
QUOTES = str.maketrans(dict.fromkeys("“”„«»\uff02", '"'))
CURSOR = re.compile(r"([0-2])_(\d{1,17})_([0-9a-f]{32})")

# As retention.listed(): what is kept for 0 days is in no list and no search, but for what is pinned.
_LISTED = """(c.pinned_at is not null
     or not exists (select from quotas_account where brand_id = %(brand)s and owner_id = %(owner)s and kind = 'user'
                    and features -> 'retention_days' = '0')
        and not exists (select from accounts_brand where id = %(brand)s and retention_days = 0))"""
_OF_CHAT = f"""c.brand_id = %(brand)s and c.owner_id = %(owner)s and c.deleted_at is null and {_LISTED}
          and (%(archived)s::boolean is null or (c.archived_at is not null) = %(archived)s)
          and (%(agent)s::uuid is null or c.agent_id = %(agent)s)"""
# Messages are walked by their owner's index; a chat is looked up for each that matches.
FIND = f"""
with titled as (
    select c.id, c.last_message_at
    from conversations_conversation c
    where {_OF_CHAT} and c.searchable @@ %(wanted)s::tsquery and (%(model)s::text = '' or c.model = %(model)s::text)
          and (%(since)s::timestamptz is null or c.last_message_at >= %(since)s)
          and (%(until)s::timestamptz is null or c.last_message_at < %(until)s)
), hit as (
    select m.id, m.conversation_id, m.created_at, m.searchable @@ %(together)s::tsquery as is_together
    from conversations_message m join conversations_conversation c on c.id = m.conversation_id
    where m.brand_id = %(brand)s and m.owner_id = %(owner)s and m.is_current and m.searchable @@ %(wanted)s::tsquery
          and (%(model)s::text = '' or m.model = %(model)s::text)
          and (%(since)s::timestamptz is null or m.created_at >= %(since)s)
          and (%(until)s::timestamptz is null or m.created_at < %(until)s)
          and {_OF_CHAT}
    order by m.id desc limit %(most)s
), best as (
    select distinct on (conversation_id) *, count(*) over (partition by conversation_id) as hits
    from hit order by conversation_id, is_together desc, id desc
), found as (
    select coalesce(titled.id, best.conversation_id) as id, best.id as message_id, coalesce(best.hits, 0) as hits,
           case when titled.id is not null then 2 when best.is_together then 1 else 0 end as rank,
           coalesce(best.created_at, titled.last_message_at, to_timestamp(0)) as at
    from titled full join best on best.conversation_id = titled.id
), page as (
    select * from found
    where %(after_rank)s::int is null
          or (rank, at, id) < (%(after_rank)s, to_timestamp(%(after_us)s::numeric / 1000000), %(after_id)s::uuid)
    order by rank desc, at desc, id desc limit %(page)s + 1
)
select page.*, c.title, c.last_message_at, c.archived_at, m.role, m.content,
       (extract(epoch from page.at) * 1000000)::bigint as at_us,
       (select count(*) from found) as chats, (select count(*) from hit) as all_hits
from page join conversations_conversation c on c.id = page.id
left join lateral (select role, left(content, %(read)s) as content from conversations_message
                   where id = page.message_id limit 1) m on true
order by page.rank desc, page.at desc, page.id desc
"""  # noqa: S608
RECENT = f"""
select c.id, c.title, c.last_message_at from conversations_conversation c
where c.brand_id = %(brand)s and c.owner_id = %(owner)s and c.deleted_at is null and c.archived_at is null and {_LISTED}
order by c.last_message_at desc nulls last, c.id desc limit %(most)s
"""  # noqa: S608
# ts_stat() runs its text as whoever asks, behind the walls; it says once more whose words these are.
_OF_OWNER = """brand_id = (select current_setting(''app.brand_id'')::uuid)
          and owner_id = (select current_setting(''app.owner_id'')::uuid)"""
OWN_WORDS = f"""
select word from ts_stat('
    (select searchable from public.conversations_message where {_OF_OWNER} order by id desc limit {MOST_TEXTS})
    union all
    (select searchable from public.conversations_conversation where {_OF_OWNER} order by id desc limit {MOST_TEXTS})')
where length(word) between %(least)s and %(most)s order by ndoc desc limit {MOST_OWN_WORDS}
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody looks for. Each term is a word, or several that stand side by side.

    is_open  the last word is still being typed
    problem  a sentence, where this cannot be looked for
    """

    typed: str = ""
    terms: tuple[tuple[str, ...], ...] = ()
    without: tuple[tuple[str, ...], ...] = ()
    is_open: bool = False
    problem: str = ""

    def query(self) -> str:
        """As the text of a tsquery. Words hold no sign of its grammar: folding took them all away."""
        asked = [_side_by_side(term) for term in self.terms]
        if self.is_open:
            asked[-1] += ":*"
        return " & ".join([*asked, *(f"!({_side_by_side(term)})" for term in self.without)])

    def together(self) -> str:
        """The same words side by side, which ranks higher; as they are, where there is only one term."""
        return _side_by_side([word for term in self.terms for word in term]) + (":*" if self.is_open else "")


def _side_by_side(term: Sequence[str]) -> str:
    return " <-> ".join(f"'{word}'" for word in term)


@dataclass(frozen=True, slots=True)
class Filters:
    """archived  None = both; model = an api_identifier; since, until = days, both included, in `zone`"""

    archived: bool | None = None
    agent_id: UUID | None = None
    model: str = ""
    since: date | None = None
    until: date | None = None
    zone: str = "UTC"

    def values(self) -> dict[str, Any]:
        return {
            "archived": self.archived,
            "agent": self.agent_id,
            "model": self.model,
            "since": self.since and _midnight(self.since, self.zone),
            "until": self.until and _midnight(self.until + timedelta(days=1), self.zone),
        }


def _midnight(day: date, zone: str) -> datetime:
    return datetime.combine(day, time(), tzinfo=ZoneInfo(zone))


@dataclass(frozen=True, slots=True)
class Results:
    """One page of chats. `after` asks for the next one; `chats` counts all of them, `is_cut` says that older hits are not."""

    found: list[dict[str, Any]]
    chats: int = 0
    after: str = ""
    is_cut: bool = False


def parse(typed: str) -> Wanted:
    """Words, "words side by side", -without. Anything may be typed; what holds no words says so in `problem`."""
    if len(typed) > MOST_CHARACTERS:
        return Wanted(
            typed[:MOST_CHARACTERS],
            problem=_("Search for less: at most %(most)s characters.") % {"most": MOST_CHARACTERS},
        )
    text = typed.translate(QUOTES)
    terms, without, is_open, count = [], [], False, 0
    for match in TERM.finditer(text):
        term = tuple(words(match[2] if match[2] is not None else match[4]))
        count += len(term)
        if term and (match[1] or match[3]):
            without.append(term)
        elif term:
            terms.append(term)
            is_open = match[4] is not None and match.end() == len(text)
    problem = ""
    if count > MOST_WORDS:
        problem = _("Search for fewer words: at most %(most)s.") % {"most": MOST_WORDS}
    elif without and not terms:
        problem = _("Say what to look for too, not only what to leave out.")
    elif not terms and typed.strip():
        problem = _("There is no word in this. Type at least two letters.")
    elif len(terms) == 1 and len(terms[0]) == 1 and len(terms[0][0]) == 1 and terms[0][0].isascii():
        problem = _("Type at least two letters.")
    return Wanted(typed, tuple(terms), tuple(without), is_open and bool(terms), problem)


def find(principal: Principal, wanted: Wanted, filters: Filters | None = None, *, after: str = "") -> Results:
    """The principal's own chats in which all of it stands, best first. Runs in the principal's scope.

    after   `Results.after` of the page before
    Raises  Invalid for a cursor that is none of ours
    """
    if wanted.problem or not wanted.terms:
        return Results([])
    rank, at_us, last = _cursor(after)
    names = {
        "brand": principal.brand_id,
        "owner": principal.owner_id,
        "wanted": wanted.query(),
        "together": wanted.together(),
        "most": MOST_HITS,
        "page": PAGE,
        "read": READ,
        "after_rank": rank,
        "after_us": at_us,
        "after_id": last,
        **(filters or Filters()).values(),
    }
    rows = _planned(FIND, names)
    shown = rows[:PAGE]
    return Results(
        found=[_result(row, wanted) for row in shown],
        chats=rows[0].chats if rows else 0,
        after=f"{shown[-1].rank}_{shown[-1].at_us}_{shown[-1].id.hex}" if len(rows) > PAGE else "",
        is_cut=bool(rows) and rows[0].all_hits == MOST_HITS,
    )


def _planned(sql: str, names: Mapping[str, Any]) -> list[Any]:
    """Rows of a statement that is planned for its very words: one plan for a common word and a rare one serves neither."""
    with connections[current_alias()].cursor() as cursor:
        cursor.execute(sql, names)
        row = namedtuple("row", [column.name for column in cursor.description])  # type: ignore[misc]
        return [row(*values) for values in cursor.fetchall()]


def _cursor(after: str) -> tuple[int | None, int | None, UUID | None]:
    if not after:
        return None, None, None
    match = CURSOR.fullmatch(after)
    if match is None:
        raise Invalid(_("This page of results is not here (any more). Search again."))
    return int(match[1]), int(match[2]), UUID(match[3])


def _result(row: Any, wanted: Wanted) -> dict[str, Any]:
    return {
        "id": row.id,
        "title": marked(row.title, wanted.terms, is_open=wanted.is_open),
        "message_id": row.message_id,
        "is_answer": row.role == "assistant",
        "excerpt": excerpt(row.content, wanted.terms, is_open=wanted.is_open) if row.content else "",
        "more": max(row.hits - 1, 0),
        "at": row.at if row.message_id else row.last_message_at,
        "is_archived": row.archived_at is not None,
    }


def recent(principal: Principal, most: int = 8) -> list[dict[str, Any]]:
    """The newest chats, before anything is typed."""
    (rows,) = send((RECENT, {"brand": principal.brand_id, "owner": principal.owner_id, "most": most}))
    return [{"id": row.id, "title": row.title, "at": row.last_message_at} for row in rows]


def instead(principal: Principal, wanted: Wanted, filters: Filters | None = None) -> str:
    """What the person may have meant, when nothing was found: their own words only, and only what finds something."""
    missing = [term[0] for term in wanted.terms if len(term) == 1 and len(term[0]) >= LEAST_MISSPELT]
    if not missing:
        return ""
    lengths = [len(word) for word in missing]
    (rows,) = send((OWN_WORDS, {"least": min(lengths) - 2, "most": max(lengths) + 2}))
    own = [row.word for row in rows]
    better = {word: close for word in missing if (close := _closest(word, own))}
    if not better:
        return ""

    def corrected(match: re.Match[str]) -> str:
        of_term = words(match[0])
        return better.get(of_term[0], match[0]) if len(of_term) == 1 else match[0]

    typed = re.sub(r"[^\s\"“”„«»-]+", corrected, wanted.typed)
    return typed if find(principal, parse(typed), filters).found else ""


def _closest(word: str, own: Collection[str]) -> str:
    """A word of one's own that is spelt nearly so; none if it is one itself."""
    if word in own:
        return ""
    near = [one for one in own if abs(len(one) - len(word)) <= 2]
    return next(iter(difflib.get_close_matches(word, near, n=1, cutoff=0.72)), "")


def filters(given: Mapping[str, str], zone: str) -> Filters:
    """From a query string. What makes no sense is refused, so that nobody takes all for what they asked for.

    Raises  Invalid
    """
    archived = {"": None, "no": False, "only": True}
    try:
        return Filters(
            archived=archived[given.get("archived", "")],
            agent_id=UUID(given["agent"]) if given.get("agent") else None,
            model=given.get("model", "")[:80].replace("\x00", ""),
            since=_day(given.get("since", "")),
            until=_day(given.get("until", "")),
            zone=zone,
        )
    except (KeyError, ValueError) as error:
        raise Invalid(_("A filter of this search is not valid. Choose it again.")) from error


def _day(given: str) -> date | None:
    day = date.fromisoformat(given) if given else None
    if day and not 2000 <= day.year < 2200:
        raise ValueError(day)
    return day
