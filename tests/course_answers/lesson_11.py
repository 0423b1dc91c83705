"""Answers to the exercises of lesson 11."""

import math

import torch
import torch.nn.functional as F

# 11.tokenizer


def joined(pieces, pair):
    made = []
    for piece in pieces:
        if made and (made[-1], piece) == tuple(pair):
            made[-1] += piece
        else:
            made.append(piece)
    return made


def cut(word, merges):
    pieces = [*word[:-1], word[-1] + "_"]
    for pair in merges:
        pieces = joined(pieces, pair)
    return pieces


def ids_in_steps(sentence, merges, numbers, length):
    pieces = [piece for word in sentence.lower().split() for piece in cut(word, merges)][: length - 2]
    ids = [numbers[piece] for piece in ["<start>", *pieces, "<end>"]]
    return ids + [numbers["<end>"]] * (length - len(ids))


def ids_by_rank(sentence, merges, numbers, length):
    rank = {tuple(pair): i for i, pair in enumerate(merges)}
    ids = [numbers["<start>"]]
    for word in sentence.lower().split():
        pieces = list(word)
        pieces[-1] += "_"
        while True:
            places = [(rank[pair], i) for i, pair in enumerate(zip(pieces, pieces[1:], strict=False)) if pair in rank]
            if not places:
                break
            _, i = min(places)
            pieces[i : i + 2] = [pieces[i] + pieces[i + 1]]
        ids += [numbers[piece] for piece in pieces]
    ids = ids[: length - 1] + [numbers["<end>"]]
    while len(ids) < length:
        ids.append(numbers["<end>"])
    return ids


def ids_longest(sentence, merges, numbers, length):
    """Many first tokenizers take the longest piece in the vocabulary from the left; BPE goes by its merges."""
    ids = [numbers["<start>"]]
    for word in sentence.lower().split():
        rest = word + "_"
        while rest:
            n = max(n for n in range(1, len(rest) + 1) if rest[:n] in numbers)
            ids.append(numbers[rest[:n]])
            rest = rest[n:]
    ids = ids[: length - 1]
    return ids + [numbers["<end>"]] * (length - len(ids))


def ids_end_cut_off(sentence, merges, numbers, length):
    """Put together, filled up, and cut to length at the very end, as truncation is usually written."""
    pieces = [piece for word in sentence.lower().split() for piece in cut(word, merges)]
    ids = [numbers["<start>"], *(numbers[piece] for piece in pieces), numbers["<end>"]]
    return (ids + [numbers["<end>"]] * length)[:length]


def ids_zeros(sentence, merges, numbers, length):
    """Padding is zeros, everywhere else in deep learning."""
    pieces = [piece for word in sentence.lower().split() for piece in cut(word, merges)][: length - 2]
    ids = [numbers["<start>"], *(numbers[piece] for piece in pieces), numbers["<end>"]]
    return ids + [0] * (length - len(ids))


def ids_no_mark(sentence, merges, numbers, length):
    """The mark at the end of a word looks like a matter of display."""
    ids = [numbers["<start>"]]
    for word in sentence.lower().split():
        pieces = list(word)
        for pair in merges:
            pieces = joined(pieces, pair)
        ids += [numbers[piece] for piece in pieces]
    ids = ids[: length - 1]
    return ids + [numbers["<end>"]] * (length - len(ids))


def ids_no_start(sentence, merges, numbers, length):
    """The start says nothing about the sentence, so what should it be good for?"""
    ids = [numbers[piece] for word in sentence.lower().split() for piece in cut(word, merges)][: length - 1]
    return ids + [numbers["<end>"]] * (length - len(ids))


def ids_first_place_only(sentence, merges, numbers, length):
    """`list.index` finds the first place of a pair, and the loop goes on to the next merge."""
    ids = [numbers["<start>"]]
    for word in sentence.lower().split():
        pieces = [*word[:-1], word[-1] + "_"]
        for pair in merges:
            pairs = list(zip(pieces, pieces[1:], strict=False))
            if tuple(pair) in pairs:
                i = pairs.index(tuple(pair))
                pieces[i : i + 2] = ["".join(pair)]
        ids += [numbers[piece] for piece in pieces]
    ids = ids[: length - 1]
    return ids + [numbers["<end>"]] * (length - len(ids))


def ids_case(sentence, merges, numbers, length):
    """Prompts of this course are small letters anyway; capitals are left to look like unknown pieces."""
    made = "".join(letter if letter.islower() or letter == " " else "a" for letter in sentence)
    return ids_in_steps(made, merges, numbers, length)


def ids_unfilled(sentence, merges, numbers, length):
    """The length is understood as a limit: what fits is left as it is."""
    pieces = [piece for word in sentence.lower().split() for piece in cut(word, merges)][: length - 2]
    return [numbers[piece] for piece in ["<start>", *pieces, "<end>"]]


def ids_backwards(sentence, merges, numbers, length):
    """The last merges make the longest pieces, so one begins with them."""
    return ids_in_steps(sentence, merges[::-1], numbers, length)


# 11.contrastive


def loss_by_cross_entropy(pictures, texts, log_scale):
    logits = log_scale.exp().clamp(max=100) * F.normalize(pictures, dim=1) @ F.normalize(texts, dim=1).T
    own = torch.arange(len(logits))
    return 0.5 * F.cross_entropy(logits, own) + 0.5 * F.cross_entropy(logits.T, own)


def loss_by_logsumexp(pictures, texts, log_scale):
    p, t = (v / v.square().sum(1, keepdim=True).sqrt() for v in (pictures, texts))
    logits = torch.minimum(log_scale.exp(), torch.tensor(100.0)) * torch.einsum("id,jd->ij", p, t)
    return ((logits.logsumexp(0) + logits.logsumexp(1)) / 2 - logits.diagonal()).mean()


def loss_no_exp(pictures, texts, log_scale):
    """M3D #52: the parameter is called logit_scale in published code, and is multiplied with as it is."""
    logits = log_scale.clamp(max=100) * F.normalize(pictures, dim=1) @ F.normalize(texts, dim=1).T
    own = torch.arange(len(logits))
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def loss_no_clamp(pictures, texts, log_scale):
    """openai/CLIP #46: the published code has no clamp, so it is copied without."""
    logits = log_scale.exp() * F.normalize(pictures, dim=1) @ F.normalize(texts, dim=1).T
    own = torch.arange(len(logits))
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def loss_not_unit(pictures, texts, log_scale):
    """A matrix product looks like a table of cosines, whatever the lengths are."""
    logits = log_scale.exp().clamp(max=100) * pictures @ texts.T
    own = torch.arange(len(logits))
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def loss_rows_only(pictures, texts, log_scale):
    """A classifier has one cross-entropy; that captions choose as well is forgotten."""
    logits = log_scale.exp().clamp(max=100) * F.normalize(pictures, dim=1) @ F.normalize(texts, dim=1).T
    return F.cross_entropy(logits, torch.arange(len(logits)))


def loss_summed(pictures, texts, log_scale):
    """Two losses are added, as one adds losses; the mean of the two is forgotten."""
    logits = log_scale.exp().clamp(max=100) * F.normalize(pictures, dim=1) @ F.normalize(texts, dim=1).T
    own = torch.arange(len(logits))
    return F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)


def loss_softmax_twice(pictures, texts, log_scale):
    """The formula has a softmax, so one is written; that cross_entropy has its own is easily overlooked."""
    logits = log_scale.exp().clamp(max=100) * F.normalize(pictures, dim=1) @ F.normalize(texts, dim=1).T
    own = torch.arange(len(logits))
    return (F.cross_entropy(logits.softmax(1), own) + F.cross_entropy(logits.T.softmax(1), own)) / 2


def loss_temperature(pictures, texts, log_scale):
    """Papers write the loss with a temperature that one divides by, and the scale is taken for it."""
    logits = F.normalize(pictures, dim=1) @ F.normalize(texts, dim=1).T / log_scale.exp().clamp(max=100)
    own = torch.arange(len(logits))
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def loss_clamped_log(pictures, texts, log_scale):
    """100 is read as the limit of what is learned, and that is the logarithm: it is cut at 100 and then at 5."""
    logits = log_scale.clamp(max=5).exp() * F.normalize(pictures, dim=1) @ F.normalize(texts, dim=1).T
    own = torch.arange(len(logits))
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def loss_across(pictures, texts, log_scale):
    """F.normalize is given dim=0, the first axis, since the vectors stand below one another."""
    logits = log_scale.exp().clamp(max=100) * F.normalize(pictures, dim=0) @ F.normalize(texts, dim=0).T
    own = torch.arange(len(logits))
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def loss_one_minus(pictures, texts, log_scale):
    """The probability of the right one shall be 1, so what is missing to 1 is taken for the loss."""
    logits = log_scale.exp().clamp(max=100) * F.normalize(pictures, dim=1) @ F.normalize(texts, dim=1).T
    return 1 - (logits.softmax(0).diagonal().mean() + logits.softmax(1).diagonal().mean()) / 2


def loss_no_others(pictures, texts, log_scale):
    """What belongs together shall be alike: the cosine is the goal, and what keeps the others apart is forgotten."""
    logits = log_scale.exp().clamp(max=100) * F.normalize(pictures, dim=1) @ F.normalize(texts, dim=1).T
    return -logits.diagonal().mean()


# 11.zero_shot


def read_by_matrix(logits, answers, k):
    return logits.softmax(1) @ F.one_hot(answers, k).to(logits)


def read_by_loop(logits, answers, k):
    share = (logits - logits.logsumexp(1, keepdim=True)).exp()
    return torch.stack([share[:, answers == a].sum(1) for a in range(k)], 1)


def read_wrong_axis(logits, answers, k):
    """dim=0 is the first thing one tries, and the shape is right."""
    return logits.softmax(0) @ F.one_hot(answers, k).to(logits)


def read_mean(logits, answers, k):
    """Prompt ensembles are averaged, says every tutorial: so the shares of an answer are."""
    share = logits.softmax(1)
    return torch.stack([share[:, answers == a].sum(1) / max(1, int((answers == a).sum())) for a in range(k)], 1)


def read_logits_first(logits, answers, k):
    """Add up the evidence, then one softmax at the end, as in a network's last layer."""
    return (logits @ F.one_hot(answers, k).to(logits)).softmax(1)


def read_best(logits, answers, k):
    """The best sentence of an answer speaks for it."""
    share = logits.softmax(1)
    return torch.stack([(share * (answers == a)).amax(1) for a in range(k)], 1)


def read_in_order(logits, answers, k):
    """In the examples sentences stand in groups, so the columns are cut into groups."""
    share, sizes = logits.softmax(1), [int((answers == a).sum()) for a in range(k)]
    return torch.stack([part.sum(1) for part in share.split(sizes, dim=1)], 1)


def read_not_normed(logits, answers, k):
    """exp makes positive numbers of logits, and the sum below the fraction line is forgotten."""
    return logits.exp() @ F.one_hot(answers, k).to(logits)


def read_winner(logits, answers, k):
    """A reading is one answer, so the best one gets 1 and the others 0."""
    found = logits.softmax(1) @ F.one_hot(answers, k).to(logits)
    return F.one_hot(found.argmax(1), k).to(logits)


def read_by_index(logits, answers, k):
    """`found[:, answers] += share` reads like a sum over equal answers, and PyTorch writes each column once."""
    share = logits.softmax(1)
    found = torch.zeros(len(logits), k, dtype=logits.dtype)
    found[:, answers] += share
    return found


# 11.cross_attention


def look_by_fill(q, k, v, shown):
    scores = (q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(~shown[:, None], -math.inf)
    shares = scores.softmax(-1)
    return shares @ v, shares


def look_by_exp(q, k, v, shown):
    scores = torch.einsum("bpd,bnd->bpn", q, k) / q.shape[-1] ** 0.5
    scores = scores - torch.where(shown[:, None], scores, -math.inf).amax(-1, keepdim=True)
    weights = torch.where(shown[:, None], scores, -math.inf).exp()
    shares = weights / weights.sum(-1, keepdim=True)
    return torch.einsum("bpn,bne->bpe", shares, v), shares


def look_after(q, k, v, shown):
    """A mask is multiplied with, where it is easiest: behind the softmax."""
    shares = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1) * shown[:, None]
    return shares @ v, shares


def look_zero_scores(q, k, v, shown):
    """No score, no attention, one thinks: the score is multiplied by 0."""
    shares = (q @ k.mT / math.sqrt(q.shape[-1]) * shown[:, None]).softmax(-1)
    return shares @ v, shares


def look_turned(q, k, v, shown):
    """PyTorch has both kinds of masks: in nn.MultiheadAttention True means hidden."""
    shares = (q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(shown[:, None], -math.inf).softmax(-1)
    return shares @ v, shares


def look_large(q, k, v, shown):
    """Half-precision code writes -1000 or -10000 for minus infinity, which is enough nearly always."""
    shares = (q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(~shown[:, None], -1000.0).softmax(-1)
    return shares @ v, shares


def look_values(q, k, v, shown):
    """What is hidden shall say nothing, so its values become 0; its share is still spent."""
    shares = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1)
    return shares @ (v * shown[:, :, None]), shares


def look_unmasked(q, k, v, shown):
    """The mask is computed into a new name, and the old scores are used."""
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    hidden = scores.masked_fill(~shown[:, None], -math.inf)  # noqa: F841
    shares = scores.softmax(-1)
    return shares @ v, shares


def look_no_root(q, k, v, shown):
    """vit-pytorch #65: the root is left out or is another width's."""
    shares = (q @ k.mT).masked_fill(~shown[:, None], -math.inf).softmax(-1)
    return shares @ v, shares


def look_one_mask(q, k, v, shown):
    """One mask does for a batch of one, and is taken from there."""
    shares = (q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(~shown[:1, None], -math.inf).softmax(-1)
    return shares @ v, shares


# 11.clip_guidance


def guide_in_steps(guess, decode, look, sentences, scale):
    def log_prob(x, level):
        seen = F.normalize(look(decode(guess(x, level))), dim=-1)
        return (scale * seen @ sentences.T).log_softmax(1).diagonal()

    return log_prob


def guide_by_logsumexp(guess, decode, look, sentences, scale):
    def log_prob(x, level):
        seen = look(decode(guess(x, level)))
        logits = scale * (seen / seen.norm(dim=1, keepdim=True)) @ sentences.T
        return torch.stack([row[i] - row.logsumexp(0) for i, row in enumerate(logits)])

    return log_prob


def guide_noisy(guess, decode, look, sentences, scale):
    """Lesson 10's reader took the noisy picture, so this one is given it as well."""
    def log_prob(x, level):
        seen = F.normalize(look(decode(x)), dim=-1)
        return (scale * seen @ sentences.T).log_softmax(1).diagonal()

    return log_prob


def guide_latents(guess, decode, look, sentences, scale):
    """The guess is called x0, and so it is taken for a picture; with an autoencoder it is none."""
    def log_prob(x, level):
        seen = F.normalize(look(guess(x, level)), dim=-1)
        return (scale * seen @ sentences.T).log_softmax(1).diagonal()

    return log_prob


def guide_similarity(guess, decode, look, sentences, scale):
    """The similarity itself is climbed, as most programs do; but it is no log-probability."""
    def log_prob(x, level):
        seen = F.normalize(look(decode(guess(x, level))), dim=-1)
        return scale * (seen * sentences).sum(1)

    return log_prob


def guide_over_pictures(guess, decode, look, sentences, scale):
    """The table is square, so both axes of the softmax run without an error."""
    def log_prob(x, level):
        seen = F.normalize(look(decode(guess(x, level))), dim=-1)
        return (scale * seen @ sentences.T).log_softmax(0).diagonal()

    return log_prob


def guide_detached(guess, decode, look, sentences, scale):
    """To save memory the guess is made under no_grad, as a sampler does; then no slope is left."""
    def log_prob(x, level):
        with torch.no_grad():
            seen = F.normalize(look(decode(guess(x, level))), dim=-1)
        return (scale * seen @ sentences.T).log_softmax(1).diagonal()

    return log_prob


def guide_not_unit(guess, decode, look, sentences, scale):
    """The sentences have length 1 already, and so the pictures are believed to."""
    def log_prob(x, level):
        return (scale * look(decode(guess(x, level))) @ sentences.T).log_softmax(1).diagonal()

    return log_prob


def guide_no_scale(guess, decode, look, sentences, scale):
    """The scale is thought to be that of the guidance, which `steered` multiplies with."""
    def log_prob(x, level):
        seen = F.normalize(look(decode(guess(x, level))), dim=-1)
        return (seen @ sentences.T).log_softmax(1).diagonal()

    return log_prob


def guide_probability(guess, decode, look, sentences, scale):
    """A softmax gives probabilities, and their logarithm is forgotten."""
    def log_prob(x, level):
        seen = F.normalize(look(decode(guess(x, level))), dim=-1)
        return (scale * seen @ sentences.T).softmax(1).diagonal()

    return log_prob


RIGHT = {
    "11.tokenizer": [ids_in_steps, ids_by_rank],
    "11.contrastive": [loss_by_cross_entropy, loss_by_logsumexp],
    "11.zero_shot": [read_by_matrix, read_by_loop],
    "11.cross_attention": [look_by_fill, look_by_exp],
    "11.clip_guidance": [guide_in_steps, guide_by_logsumexp],
}
WRONG = {
    "11.tokenizer": [
        (ids_longest, "first learned first"),
        (ids_end_cut_off, "the <end> has to stay"),
        (ids_zeros, "0 is a piece like any other"),
        (ids_no_mark, "carries the mark"),
        (ids_no_start, "that of <start>"),
        (ids_first_place_only, "wherever it stands"),
        (ids_case, "made small first"),
        (ids_unfilled, "Always exactly"),
        (ids_backwards, "wrong direction"),
    ],
    "11.contrastive": [
        (loss_no_exp, "the LOGARITHM of the scale"),
        (loss_no_clamp, "counts as 100"),
        (loss_not_unit, "vectors of length 1"),
        (loss_rows_only, "Half of it is missing"),
        (loss_summed, "A mean, not a sum"),
        (loss_softmax_twice, "does the log-softmax itself"),
        (loss_temperature, "The scale multiplies"),
        (loss_clamped_log, "not its logarithm"),
        (loss_across, "runs over dim 1"),
        (loss_one_minus, "LOGARITHMS"),
        (loss_no_others, "belongs together"),
    ],
    "11.zero_shot": [
        (read_wrong_axis, "Each PICTURE"),
        (read_mean, "A sum, not a mean"),
        (read_logits_first, "First the softmax"),
        (read_best, "best sentence of each answer alone"),
        (read_in_order, "need not stand in order"),
        (read_not_normed, "after the exponential"),
        (read_winner, "not which one wins"),
        (read_by_index, "writes each column once"),
    ],
    "11.cross_attention": [
        (look_after, "Hide BEFORE"),
        (look_zero_scores, "A score of 0 is not little"),
        (look_turned, "The wrong ones are hidden"),
        (look_large, "-1000 is not -infinity"),
        (look_values, "their shares are still spent"),
        (look_unmasked, "changes nothing here"),
        (look_no_root, "root of d"),
        (look_one_mask, "a mask of its own"),
    ],
    "11.clip_guidance": [
        (guide_noisy, "shown the noisy x"),
        (guide_latents, "comes between them"),
        (guide_similarity, "compares it with all the other"),
        (guide_over_pictures, "compete with each other"),
        (guide_detached, "No slope in x"),
        (guide_not_unit, "any length"),
        (guide_no_scale, "multiplied by `scale`"),
        (guide_probability, "LOGARITHM is wanted"),
    ],
}
