"""How fast the simulated Catena, its providers and its drivers live. All figures are seconds unless said otherwise."""

from dataclasses import dataclass

Range = tuple[float, float]


@dataclass
class Pace:
    """Where a pair is given, each case draws its own figure from that range.

    None of these figures is published by Catena (contract, sections 9, 10 and 12): they are choices of this simulator.
    """

    queue_delay: Range = (0.4, 1.2)
    """Before the first attempt."""
    attempt_gap: Range = (1.5, 3.0)
    max_attempts: int = 3
    slow_delay: float = 720.0
    """Before the first attempt of a message with the magic word `#slow`."""
    list_delay: float = 0.0
    """An operation is missing from lists for this long; reading it by id works at once."""
    receipt_delay: Range = (2.0, 6.0)
    read_delay: Range = (4.0, 15.0)
    """After the message was delivered."""
    ingest_interval: float = 3.0
    """Catena polls providers on this beat: what drivers do becomes visible on the next one. 0 means at once."""
    reply_chance: float = 0.7
    """Share of accepted messages (0 to 1) that the driver answers."""
    reply_delay: Range = (3.0, 12.0)
    chatter_interval: float | None = None
    """Drivers write unprompted about this often; None means never."""
    token_lifetime: int = 3600
    webhook_delay: Range = (0.05, 0.3)
    webhook_timeout: float = 3.0
    webhook_gaps: Range = (0.7, 1.4)
    """Before the second and before the third try of one delivery."""
    breaker_grace: float = 900.0
    """The circuit breaker does not judge a subscription for this long after it was made or changed."""

    @classmethod
    def instant(cls) -> "Pace":
        """Everything happens at once and drivers stay silent: for tests that count."""
        return cls(
            queue_delay=(0.0, 0.0),
            attempt_gap=(0.0, 0.0),
            receipt_delay=(0.0, 0.0),
            read_delay=(0.0, 0.0),
            ingest_interval=0.0,
            reply_chance=0.0,
            reply_delay=(0.0, 0.0),
            webhook_delay=(0.0, 0.0),
            webhook_gaps=(0.02, 0.04),
        )

    @classmethod
    def lively(cls) -> "Pace":
        """The demo: drivers answer, and one of them writes unprompted about every 20 seconds."""
        return cls(chatter_interval=20.0)
