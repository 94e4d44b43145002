"""What answering requests took, beside what it could have taken."""

from __future__ import annotations

from dataclasses import dataclass

from harness.engine.candidates import ScoringJob
from harness.task import Loglikelihoods


@dataclass
class Work:
    """What was computed, beside what could have been.

    Attributes:
        tokens: read by the decoder.
        logit_rows: positions whose logits were made.
        pairs: candidates under prompts.
        pair_tokens: tokens of all pairs, prompt and candidate: what scoring each pair by itself reads.
        candidate_tokens: of these the candidates' own.
        floor: tokens of each prompt and, where ranks are wanted, its gold; else all its candidates.
        unfinished: pairs left before their end.
        shared_prefix: whether prompts were shared; False for models that offer plain forward alone.
        out_of_memory_retries: times that memory ran out.
    """

    tokens: int = 0
    logit_rows: int = 0
    pairs: int = 0
    pair_tokens: int = 0
    candidate_tokens: int = 0
    floor: int = 0
    unfinished: int = 0
    shared_prefix: bool = True
    out_of_memory_retries: int = 0

    def count(self, job: ScoringJob, answer: Loglikelihoods) -> None:
        """Adds an answered request."""
        lengths, prompt = job.num_tokens, len(job.context)
        gold = job.request.ranking.gold if job.request.ranking else None
        self.pairs += len(lengths)
        self.pair_tokens += prompt * len(lengths) + int(lengths.sum())
        self.candidate_tokens += int(lengths.sum())
        self.floor += prompt + int(lengths.sum() if gold is None else lengths[gold])
        self.unfinished += 0 if answer.complete is None else int((~answer.complete).sum())
