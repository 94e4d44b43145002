"""Speech in, units out: audio, features, k-means, unit subwords and the tokenizer that joins them."""
