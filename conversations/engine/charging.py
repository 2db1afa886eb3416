"""What an ended turn costs: the provider's count if it can be true, else our own."""

from dataclasses import dataclass

from providers.calls import Usage


@dataclass(frozen=True, slots=True)
class Charge:
    """What an ended turn costs its member. `excess_tokens` is what the provider says beyond the hold: the house's."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    source: str = ""  # "provider", or "own" count
    is_odd: bool = False  # the provider's numbers could not be used
    excess_tokens: int = 0
    has_arrived: bool = False  # so it counts as a question

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


def charge(
    usage: Usage | None,
    *,
    own_prompt_tokens: int,
    own_completion_tokens: int,
    held_tokens: int,
    has_arrived: bool = False,
    is_done: bool = False,
) -> Charge:
    """The provider's usage if it lies within the hold, else our own count, never more than the hold.

    is_done  the answer came to its end; then what the vendor counted was done for it, also when none of it is text: a
             model may only have thought, or met a stop sequence at once

    Nothing arrived: nothing is charged. Source: RELIABILITY Q-05, Q-06, Q-23, Q-26.
    """
    told = None
    if usage and usage.prompt_tokens is not None and usage.completion_tokens is not None:
        told = usage.prompt_tokens + usage.completion_tokens
    if not own_completion_tokens and not has_arrived and not (is_done and told):
        return Charge()
    if usage and told and told <= held_tokens:
        return Charge(usage.prompt_tokens or 0, usage.completion_tokens or 0, "provider", has_arrived=True)
    prompt_tokens = min(own_prompt_tokens, held_tokens)
    completion_tokens = min(own_completion_tokens, held_tokens - prompt_tokens)
    excess = told - prompt_tokens - completion_tokens if told and held_tokens < told <= held_tokens * 10 else 0
    return Charge(
        prompt_tokens, completion_tokens, "own", is_odd=usage is not None, excess_tokens=excess, has_arrived=True
    )
