"""Training of joint speech-unit + text decoders: formats, mixtures, loop, checkpoints."""
