"""Slow, obviously right oracles: plain loops that share no code with what they check."""

import numpy as np
import torch


def loglikelihood(model, context, continuation):
    """Of one continuation: one forward pass over the whole sequence, no batch, no cache."""
    ids = torch.tensor([[*context, *continuation]], device=model.device)
    with torch.no_grad():
        logprobs = torch.log_softmax(model.logits(model.forward(ids).states[0]).float(), dim=-1)
    return sum(float(logprobs[len(context) - 1 + i, token]) for i, token in enumerate(continuation))


def loglikelihoods(model, request):
    """Of every candidate of a request."""
    context = (
        model.encode_prompt(request.prompt, request.target)
        if request.prompt
        else model.encode_prior(request.source, request.target)
    )
    return np.array([loglikelihood(model, context, model.encode_continuation(request.pool[i])) for i in request.chosen])


def ranks(scores, gold, tolerance):
    """`(better, tied)` of the gold, by counting."""
    better = sum(1 for s in scores if s > scores[gold] + tolerance)
    tied = sum(1 for s in scores if abs(s - scores[gold]) <= tolerance)
    return better, tied
