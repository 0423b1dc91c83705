"""Answers to the exercises of lesson 17."""

import hashlib
import json
import random
import time

import torch

# 17.pairs


def pairs_by_lines(text, files):
    good, wrong = [], {}
    for line in text.splitlines():
        if not line.strip():
            continue
        row = json.loads(line)
        name, caption = row["file_name"], row["text"].strip()
        if name not in files:
            wrong[name] = "no picture"
        elif not caption:
            wrong[name] = "no caption"
        else:
            good.append((name, caption))
    told = {name for name, _ in good} | set(wrong)
    return good, wrong | {name: "no caption" for name in files if name not in told}


def pairs_by_sets(text, files):
    rows = [json.loads(line) for line in text.split("\n") if line]
    captions = {row["file_name"]: " ".join(row["text"].split()) for row in rows}
    there, said = set(files), {name for name, caption in captions.items() if caption}
    wrong = dict.fromkeys(there - said, "no caption") | dict.fromkeys(captions.keys() - there, "no picture")
    return [[name, caption] for name, caption in captions.items() if name in there & said], wrong


def pairs_with(change):
    """A right answer whose two parts are changed afterwards: change(good, wrong, rows, files)."""

    def pairs(text, files):
        rows = [json.loads(line) for line in text.split("\n") if line]
        return change(*pairs_by_lines(text, files), rows, files)

    return pairs


def pairs_sorted_files():
    """cloneofsimo/lora #197: the files are sorted and the captions stay as they were, and both go by their place."""
    return pairs_with(lambda good, wrong, rows, files:
                      (list(zip(sorted(files), [row["text"].strip() for row in rows], strict=False)), wrong))


def pairs_as_listed():
    """os.listdir gives files, the metadata gives lines: the same number of each, so they are zipped."""
    return pairs_with(lambda good, wrong, rows, files:
                      (list(zip(files, [row["text"].strip() for row in rows], strict=False)), wrong))


def pairs_with_ghosts():
    """Whoever wrote the metadata is trusted: nobody looks whether the file is still there."""
    def change(good, wrong, rows, files):
        good = [(row["file_name"], row["text"].strip()) for row in rows if row["text"].strip()]
        wrong = {name: what for name, what in wrong.items() if what == "no caption"}
        return good, wrong | {row["file_name"]: "no caption" for row in rows if not row["text"].strip()}

    return pairs_with(change)


def pairs_forget_files():
    """The loop goes over the lines, so files that no line names are never met."""
    def change(good, wrong, rows, files):
        named = {row["file_name"] for row in rows}
        return good, {name: what for name, what in wrong.items() if name in named}

    return pairs_with(change)


def pairs_take_spaces(text, files):
    """`if caption:` is true for a caption of three spaces, which training then learns as words."""
    good, wrong = [], {}
    for row in map(json.loads, filter(None, text.split("\n"))):
        if row["file_name"] not in files:
            wrong[row["file_name"]] = "no picture"
        elif row["text"]:
            good.append((row["file_name"], row["text"].strip()))
        else:
            wrong[row["file_name"]] = "no caption"
    named = {row["file_name"] for row in map(json.loads, filter(None, text.split("\n")))}
    return good, wrong | {name: "no caption" for name in files if name not in named}


def pairs_drop_the_empty():
    """Lines with an empty caption are skipped with `continue`, and with them the report."""
    def change(good, wrong, rows, files):
        empty = {row["file_name"] for row in rows if not row["text"].strip() and row["file_name"] in files}
        return good, {name: what for name, what in wrong.items() if name not in empty}

    return pairs_with(change)


def pairs_unstripped():
    """The caption is taken as it stands: what harm can a space do?"""
    def change(good, wrong, rows, files):
        said = {row["file_name"]: row["text"] for row in rows}
        return [(name, said[name]) for name, _ in good], wrong

    return pairs_with(change)


def pairs_sorted():
    """Sorting makes results repeatable, so everything is sorted once more at the end."""
    return pairs_with(lambda good, wrong, rows, files: (sorted(good), wrong))


def pairs_by_quotes(text, files):
    """A line looks simple enough to be split at its quotes, until a caption has one."""
    good, wrong = pairs_by_lines(text, files)
    split = {line.split('"')[3]: line.split('"')[7].strip() for line in text.split("\n") if line}
    return [(name, split[name]) for name, _ in good], wrong


# 17.bucket


def bucket_by_ratio(width, height, buckets):
    def cut(place):
        ratio = width / height * place[1] / place[0]
        return 1 - min(ratio, 1 / ratio)

    best = min(buckets, key=lambda place: (round(cut(place), 9), -place[0] * place[1]))
    return best, cut(best)


def bucket_by_covering(width, height, buckets):
    found = None
    for bw, bh in sorted(buckets, key=lambda place: -place[0] * place[1]):
        scale = max(bw / width, bh / height)
        share = (width * scale * height * scale - bw * bh) / (width * scale * height * scale)
        if found is None or share < found[1] - 1e-9:
            found = ((bw, bh), share)
    return found


def bucket_with(key, share=None):
    """Chooses by another key; tells the right share of what was chosen, or another."""

    def bucket(width, height, buckets):
        best = min(buckets, key=lambda place: key(width, height, place))
        right = bucket_by_ratio(width, height, [best])[1]
        return best, right if share is None else share(right, width, height, best)

    return bucket


def right_key(w, h, place):
    return round(bucket_by_ratio(w, h, [place])[1], 9), -place[0] * place[1]


def bucket_ratio_difference():
    """NovelAI-like code compares width / height with that of each bucket, by subtraction."""
    return bucket_with(lambda w, h, p: (abs(w / h - p[0] / p[1]), -p[0] * p[1]))


def bucket_nearest_size():
    """"The nearest bucket" is read as the nearest in pixels."""
    return bucket_with(lambda w, h, p: (abs(w - p[0]) + abs(h - p[1]), right_key(w, h, p)))


def bucket_smallest():
    """Equal cuts: the smaller one is cheaper to train on."""
    return bucket_with(lambda w, h, p: (right_key(w, h, p)[0], p[0] * p[1]))


def bucket_first():
    """`min` keeps the first of equal ones, and nobody thought of equal ones."""
    return bucket_with(lambda w, h, p: right_key(w, h, p)[0])


def bucket_turned():
    """Tensors are (height, width), pictures (width, height), and one of them was forgotten."""
    return bucket_with(lambda w, h, p: right_key(h, w, p))


def bucket_kept():
    """The share that stays is what one computes first, and it is returned."""
    return bucket_with(right_key, lambda share, w, h, best: 1 - share)


def bucket_percent():
    """The report shows per cent, so per cent it is."""
    return bucket_with(right_key, lambda share, w, h, best: 100 * share)


def bucket_of_bucket():
    """What sticks out is compared with the bucket instead of with the picture."""
    return bucket_with(right_key, lambda share, w, h, best: share / (1 - share))


def bucket_unscaled():
    """The bucket is cut out of the picture as it is, as a crop without resizing does."""
    return bucket_with(right_key, lambda share, w, h, best: 1 - best[0] * best[1] / (w * h))


# 17.key


def raw(encoder):
    return b"".join(name.encode() + tensor.numpy().tobytes() for name, tensor in encoder.items())


def key_of_one_hash(data, name, modified, encoder, place, mirrored):
    digest = hashlib.sha256(data)
    for part, tensor in encoder.items():
        digest.update(part.encode())
        digest.update(tensor.numpy().tobytes())
    digest.update(repr((place, mirrored)).encode())
    return digest.hexdigest()


def key_of_parts(data, name, modified, encoder, place, mirrored):
    weights = json.dumps({part: tensor.double().tolist() for part, tensor in sorted(encoder.items())})
    parts = [hashlib.md5(data).hexdigest(), hashlib.md5(weights.encode()).hexdigest(), *map(str, place), str(mirrored)]
    return "-".join(parts)


def key_with(parts):
    """A hash of the repr of other parts: parts(data, name, modified, encoder, place, mirrored)."""

    def key(data, name, modified, encoder, place, mirrored):
        return hashlib.sha256(repr(parts(data, name, modified, encoder, place, mirrored)).encode()).hexdigest()

    return key


def key_by_clock():
    """A cache wants unique names, and the time makes them unique."""
    return key_with(lambda data, name, modified, encoder, place, mirrored: (data, time.perf_counter_ns()))


def key_with_name():
    """NAME.npz beside NAME.png is how training scripts often keep their latents."""
    return key_with(lambda data, name, modified, encoder, place, mirrored: (data, name, raw(encoder), place, mirrored))


def key_with_time():
    """Make and its relatives look at the time of a file, which is fast."""
    return key_with(lambda data, name, modified, encoder, place, mirrored:
                    (data, modified, raw(encoder), place, mirrored))


def key_by_length():
    """kohya_ss #1629: an edited picture of the same resolution keeps its old latent."""
    return key_with(lambda data, name, modified, encoder, place, mirrored: (len(data), raw(encoder), place, mirrored))


def key_by_head():
    """The first kilobytes of a file are unique in most folders, and quick to read."""
    return key_with(lambda data, name, modified, encoder, place, mirrored: (data[:1024], raw(encoder), place, mirrored))


def key_without_encoder():
    """The picture is what is cached, so the picture is what is hashed."""
    return key_with(lambda data, name, modified, encoder, place, mirrored: (data, place, mirrored))


def key_by_shapes():
    """The names and shapes say which network it is, and not what it has learned."""
    return key_with(lambda data, name, modified, encoder, place, mirrored:
                    (data, {part: tensor.shape for part, tensor in encoder.items()}, place, mirrored))


def key_by_text():
    """repr works for everything else here, so it is taken for tensors too."""
    return key_with(lambda data, name, modified, encoder, place, mirrored: (data, encoder, place, mirrored))


def key_by_sum():
    """One number for all weights: their sum, in float64 to be exact."""
    return key_with(lambda data, name, modified, encoder, place, mirrored:
                    (data, sum(tensor.double().sum().item() for tensor in encoder.values()), place, mirrored))


def key_by_id():
    """hash() of a tensor gives a number, which looks like the hash that was asked for."""
    return key_with(lambda data, name, modified, encoder, place, mirrored:
                    (data, [hash(tensor) for tensor in encoder.values()], place, mirrored))


def key_without_place():
    """All pictures have one size today, so the size is left out."""
    return key_with(lambda data, name, modified, encoder, place, mirrored: (data, raw(encoder), mirrored))


def key_glued():
    """f"{h}{w}" is short, and unique for every size that one thinks of at first."""
    return key_with(lambda data, name, modified, encoder, place, mirrored:
                    (data, raw(encoder), f"{place[0]}{place[1]}", mirrored))


def key_without_mirror():
    """Flips are an afterthought: the mirrored picture has the same file."""
    return key_with(lambda data, name, modified, encoder, place, mirrored: (data, raw(encoder), place))


# 17.order


def order_by_places(n, size, seed, step):
    row = []
    for place in range(step * size, (step + 1) * size):
        epoch, at = divmod(place, n)
        g = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        row.append(torch.randperm(n, generator=g)[at].item())
    return row


def order_by_row(n, size, seed, step):
    first, last = step * size // n, ((step + 1) * size - 1) // n
    row = []
    for epoch in range(first, last + 1):
        numbers = list(range(n))
        random.Random(f"{seed} {epoch}").shuffle(numbers)
        row += numbers
    start = step * size - first * n
    return row[start : start + size]


def shuffled(n, *seed):
    numbers = list(range(n))
    random.Random(repr(seed)).shuffle(numbers)
    return numbers


def order_with(place, epochs=lambda n, seed, epoch: shuffled(n, seed, epoch)):
    """A batch of other places, or of other orders of the epochs."""

    def batch(n, size, seed, step):
        places = [place(n, size, step, i) for i in range(size)]
        return [epochs(n, seed, epoch)[at] for epoch, at in places]

    return batch


def right_place(n, size, step, i):
    return divmod(step * size + i, n)


def order_remembers():
    """An iterator that is shuffled at the end of each epoch, as loops of training have it."""
    given, epochs = [], []

    def batch(n, size, seed, step):
        while len(given) < size:
            given.extend(shuffled(n, seed, len(epochs)))
            epochs.append(n)
        taken = given[:size]
        del given[:size]
        return taken

    return batch


def order_unseeded(n, size, seed, step):
    """Random is random: the seed is taken for something that only tests need."""
    return torch.randperm(n).repeat(size // n + 1)[:size].tolist()


def order_seeds_all(n, size, seed, step):
    """torch.manual_seed at the top is how every notebook makes things repeatable."""
    torch.manual_seed(seed * 1_000_003 + step * size // n)
    row = torch.cat([torch.randperm(n) for _ in range(size // n + 2)])
    start = step * size % n
    return row[start : start + size].tolist()


def order_short(n, size, seed, step):
    """A DataLoader's last batch is shorter, and the epoch begins anew after it."""
    each = -(-n // size)
    epoch, at = divmod(step, each)
    return shuffled(n, seed, epoch)[at * size : (at + 1) * size]


def order_replaces(n, size, seed, step):
    """Drawing anew at each step needs no list and no epoch, and so it is shorter."""
    return random.Random(f"{seed} {step}").choices(range(n), k=size)


def order_drops_last():
    """drop_last=True: what does not fill a batch is left for another time."""
    return order_with(lambda n, size, step, i:
                      (step // (n // size), step % (n // size) * size + i) if n >= size
                      else divmod(step * size + i, n))


def order_fills_up():
    """A batch that is too short is filled from the beginning of the same list, by a modulo."""
    return order_with(lambda n, size, step, i: (step // -(-n // size), (step % -(-n // size) * size + i) % n))


def order_fixed():
    """Shuffled once, before the first epoch: that is random enough."""
    return order_with(right_place, lambda n, seed, epoch: shuffled(n, seed))


def order_ignores_seed():
    """The epoch is the seed of its order, and the run's own seed is forgotten."""
    return order_with(right_place, lambda n, seed, epoch: shuffled(n, epoch))


def order_as_in_folder():
    """The order of the folder is as good as any, since the network does not know it."""
    return order_with(right_place, lambda n, seed, epoch: list(range(n)))


def order_adds():
    """seed + epoch is what PyTorch's DistributedSampler takes."""
    return order_with(right_place, lambda n, seed, epoch: shuffled(n, seed + epoch))


# 17.listens


def listens_by_seeds(error, captions):
    moved = captions[1:] + captions[:1]
    gaps = [(error(moved, seed) - error(captions, seed)).mean() for seed in range(8)]
    return sum(gaps) / len(gaps)


def listens_stacked(error, captions):
    n = len(captions)
    wrong = torch.stack([error([captions[(i + 1) % n] for i in range(n)], seed) for seed in range(8)])
    right = torch.stack([error(captions, seed) for seed in range(8)])
    return wrong.mean().item() - right.mean().item()


def listens_with(gap, moved=lambda captions: captions[1:] + captions[:1]):
    """gap(error, moved captions, captions)."""
    return lambda error, captions: gap(error, moved(captions), captions)


def mean_gap(error, wrong, right):
    return sum(float((error(wrong, seed) - error(right, seed)).mean()) for seed in range(8)) / 8


def listens_other_noise():
    """Each call gets a seed of its own, as one draws fresh noise everywhere else."""
    return listens_with(lambda error, wrong, right:
                        sum(float((error(wrong, s + 8) - error(right, s)).mean()) for s in range(8)) / 8)


def listens_turned():
    """right - wrong: how much better the right captions are, with the wrong sign."""
    return listens_with(lambda error, wrong, right: mean_gap(error, right, wrong))


def listens_ratio():
    """A ratio has no unit, and so it looks fairer than a difference."""
    return listens_with(lambda error, wrong, right:
                        sum(float((error(wrong, s) / error(right, s)).mean()) for s in range(8)) / 8)


def listens_reversed():
    """captions[::-1] is the shortest way to give everybody another's."""
    return listens_with(mean_gap, lambda captions: captions[::-1])


def listens_previous():
    """Moved by one, but by [-1:] + [:-1], which is the other way round."""
    return listens_with(mean_gap, lambda captions: captions[-1:] + captions[:-1])


def listens_to_nothing():
    """The empty caption is at hand from guidance: with and without words."""
    return listens_with(mean_gap, lambda captions: [""] * len(captions))


def listens_once():
    """One seed, since the noise is the same for both anyway."""
    return listens_with(lambda error, wrong, right: (error(wrong, 0) - error(right, 0)).mean())


def listens_summed():
    """.sum() where .mean() was meant, so that it grows with the folder."""
    return listens_with(lambda error, wrong, right:
                        sum(float((error(wrong, s) - error(right, s)).sum()) for s in range(8)))


def listens_right_only():
    """The loss is the measure of everything else, so it is returned."""
    return listens_with(lambda error, wrong, right: sum(float(error(right, s).mean()) for s in range(8)) / 8)


def listens_shuffled():
    """random.sample gives everybody another caption, or nearly everybody."""
    return listens_with(mean_gap, lambda captions: random.sample(captions, len(captions)))


RIGHT = {
    "17.pairs": [pairs_by_lines, pairs_by_sets],
    "17.bucket": [bucket_by_ratio, bucket_by_covering],
    "17.key": [key_of_one_hash, key_of_parts],
    "17.order": [order_by_places, order_by_row],
    "17.listens": [listens_by_seeds, listens_stacked],
}
WRONG = {
    "17.pairs": [
        (pairs_sorted_files, "every caption after it"), (pairs_as_listed, "nobody's promise"),
        (pairs_with_ghosts, "says \"no picture\""), (pairs_forget_files, "that no line names"),
        (pairs_take_spaces, "spaces alone"), (pairs_drop_the_empty, "in neither answer"),
        (pairs_unstripped, "White space"), (pairs_sorted, "order of the lines"), (pairs_by_quotes, "json.loads"),
    ],
    "17.bucket": [
        (bucket_ratio_difference, "by subtraction"), (bucket_nearest_size, "nearest in pixels"),
        (bucket_smallest, "keeps more detail"), (bucket_first, "comes first"), (bucket_turned, "turned"),
        (bucket_kept, "KEPT"), (bucket_percent, "per cent"), (bucket_of_bucket, "not by the bucket"),
        (bucket_unscaled, "before it is cut"),
    ],
    "17.key": [
        (key_by_clock, "two names"), (key_with_name, "renamed"), (key_with_time, "touched"),
        (key_by_length, "old latent"), (key_by_head, "part of the bytes"), (key_without_encoder, "decoder"),
        (key_by_shapes, "VALUES"), (key_by_text, "four digits"), (key_by_sum, "change places"), (key_by_id, "object"),
        (key_without_place, "At another size"), (key_glued, "both are 888"), (key_without_mirror, "of its own"),
    ],
    "17.order": [
        (order_remembers, "(seed, step) alone"), (order_unseeded, "nothing seeds"), (order_seeds_all, "shares"),
        (order_short, "short here"),
        (order_replaces, "replacement"), (order_drops_last, "dropped"), (order_fills_up, "NEXT epoch"),
        (order_fixed, "Every epoch"), (order_ignores_seed, "Another seed"), (order_as_in_folder, "order of the folder"),
        (order_adds, "you add the two"),
    ],
    "17.listens": [
        (listens_other_noise, "SAME seed"), (listens_turned, "wrong minus right"), (listens_ratio, "ratio"),
        (listens_reversed, "in the middle"), (listens_previous, "the other way"), (listens_to_nothing, "Without a"),
        (listens_once, "seed 0 alone"), (listens_summed, "not the sum"), (listens_right_only, "mean nothing"),
        (listens_shuffled, "by chance"),
    ],
}  # fmt: skip
