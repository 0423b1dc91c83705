"""Answers to the exercises of lesson 16."""

import math
from collections import Counter, defaultdict
from itertools import chain, combinations, product

import torch
from torch import nn

# 16.read_table

WIDTHS = {768: "SD 1.x", 1024: "SD 2.x", 2048: "SDXL"}


def census_loop(table):
    counts = {}
    for name, shape in table.items():
        part = name.split(".")[0]
        counts[part] = counts.get(part, 0) + math.prod(shape)
        if name.endswith("attn2.to_k.weight"):
            family = WIDTHS[shape[1]]
    return family, table["conv_in.weight"][1] == 9, counts


def census_passes(table):
    counter = Counter()
    for name in table:
        counter.update({name.partition(".")[0]: int(torch.tensor(table[name]).prod())})
    width = max(shape[-1] for name, shape in table.items() if "attn2.to_v" in name)
    family = "SDXL" if width == 2048 else "SD 2.x" if width == 1024 else "SD 1.x"
    _, c_in, *_ = table["conv_in.weight"]
    return [family, bool(c_in > 4), counter]


def census_with(family=None, inpainting=None, counts=None):
    """A right census but for one of its three answers."""

    def census(table):
        a, b, c = census_loop(table)
        return family(table) if family else a, inpainting(table) if inpainting else b, counts(table) if counts else c

    return census


def census_out_width():
    """A linear layer is said to go "from 320 to 768", so a matrix is read as (in, out)."""
    near = {320: "SD 1.x", 640: "SD 2.x", 1280: "SDXL"}
    return census_with(family=lambda t: near[next(s[0] for n, s in t.items() if n.endswith("attn2.to_k.weight"))])


def census_self_attention():
    """The first `to_k` of the table will do, whichever attention it belongs to."""
    return census_with(family=lambda t: WIDTHS.get(next(s[1] for n, s in t.items() if "to_k" in n), "SD 1.x"))


def census_conv_out():
    """Shapes are read as (in, out, ...), and so the 320 of conv_in is taken for its input."""
    return census_with(inpainting=lambda t: t["conv_in.weight"][0] == 9)


def census_no_biases():
    """"The weights" of a network is taken at its word."""
    return census_with(counts=lambda t: census_loop({n: s for n, s in t.items() if n.endswith("weight")})[2])


def census_tensors():
    """Parameters are taken for the tensors that `parameters()` gives."""
    return census_with(counts=lambda t: dict(Counter(n.split(".")[0] for n in t)))


def census_last():
    """`counts[part] = ...` in the loop, where += was meant."""
    return census_with(counts=lambda t: {n.split(".")[0]: math.prod(s) for n, s in t.items()})


def census_sums():
    """The sizes of a shape are added up, as one adds up a list of counts."""

    def counts(table):
        found = defaultdict(int)
        for name, shape in table.items():
            found[name.split(".")[0]] += sum(shape)
        return found

    return census_with(counts=counts)


# 16.find_eps


def find_by_setting(right, suspect):
    twins = dict(right.named_modules())
    return [n for n, m in suspect.named_modules() if isinstance(m, nn.GroupNorm) and m.eps != twins[n].eps]


def find_by_answers(right, suspect):
    """Each norm of the right network and its twin on the same input."""
    inputs, found = {}, set()
    for name, module in right.named_modules():
        if isinstance(module, nn.GroupNorm):
            module.register_forward_hook(lambda m, given, out, name=name: inputs.update({name: given[0]}))
    run(right)
    for name, x in inputs.items():
        if not torch.equal(right.get_submodule(name)(x), suspect.get_submodule(name)(x)):
            found.add(name)
    return found


def find_by_text(right, suspect):
    pairs = zip(right.named_modules(), suspect.named_modules(), strict=True)
    return (name for (name, a), (_, b) in pairs if not list(a.children()) and repr(a) != repr(b))


def run(network):
    generator = torch.Generator().manual_seed(0)
    x, context = (torch.randn(s, generator=generator, dtype=torch.float64) for s in ((1, 4, 8, 8), (1, 3, 8)))
    return network(x, torch.tensor([500]), context)


def find_every_1e5(right, suspect):
    """The lesson says that eps was changed "to 1e-5", so every 1e-5 is suspected."""
    return [n for n, m in suspect.named_modules() if isinstance(m, nn.GroupNorm) and m.eps == 1e-5]


def find_by_weights(right, suspect):
    """Whatever a network is, is believed to be in its state_dict."""
    ours, theirs = right.state_dict(), suspect.state_dict()
    return [n.removesuffix(".weight") for n in ours if not torch.equal(ours[n], theirs[n])]


def find_downstream(right, suspect):
    """Both networks run on the same input, and every norm that answers otherwise is taken for changed."""
    seen = []
    for network in (right, suspect):
        seen.append({})
        for name, module in network.named_modules():
            if isinstance(module, nn.GroupNorm):
                module.register_forward_hook(lambda m, i, out, name=name, into=seen[-1]: into.update({name: out}))
        run(network)
    return [name for name in seen[0] if not torch.equal(seen[0][name], seen[1][name])]


def find_first(right, suspect):
    """`return` in the loop: the search ends at the first find, or with the first norm that is equal."""
    return find_by_setting(right, suspect)[:1]


def find_transformers_only(right, suspect):
    """The eps of 1e-6 is told of transformers, so only their norms are looked at."""
    return [name for name in find_by_setting(right, suspect) if "attentions" in name]


# 16.rename


def rename_table(name):
    inner = {
        "in_layers.0": "norm1", "in_layers.2": "conv1", "emb_layers.1": "time_emb_proj",
        "out_layers.0": "norm2", "out_layers.3": "conv2", "skip_connection": "conv_shortcut",
    }  # fmt: skip
    _, number, _, *pieces, kind = name.split(".")
    level, place = divmod(int(number) - 1, 3)
    return f"down_blocks.{level}.resnets.{place}.{inner['.'.join(pieces)]}.{kind}"


def rename_replacing(name):
    number = 0
    for level in range(4):
        for place in range(3):
            number += 1
            name = name.replace(f"input_blocks.{number}.0.", f"down_blocks.{level}.resnets.{place}.")
    name = name.replace("in_layers.0", "norm1").replace("in_layers.2", "conv1").replace("emb_layers.1", "time_emb_proj")
    name = name.replace("out_layers.0", "norm2").replace("out_layers.3", "conv2")
    return name.replace("skip_connection", "conv_shortcut")


def rename_with(numbers=lambda n: divmod(n - 1, 3), **inner):
    """A right rename but for its arithmetic, or for what is inside a block ("_" stands for ".")."""

    def rename(name):
        right = rename_table(name).split(".", 4)[-1]
        number, old = int(name.split(".")[1]), name.split(".", 3)[-1].rpartition(".")[0]
        if old in inner:
            right = inner[old] + "." + right.rpartition(".")[2]
        level, place = numbers(number)
        return f"down_blocks.{level}.resnets.{place}.{right}"

    return rename


def rename_without_conv_in():
    """The first number is taken for 0: that conv_in has number 0 is easily overlooked."""
    return rename_with(lambda n: divmod(n, 3))


def rename_two_a_level():
    """`layers_per_block` is 2, so the numbers are divided by 2; the halving has a number of its own."""
    return rename_with(lambda n: divmod(n - 1, 2))


def rename_number_is_level():
    """Two numbers here and two there: input_blocks.4.0 becomes down_blocks.4.resnets.0."""
    return rename_with(lambda n: (n, 0))


def rename_one_digit():
    """The number is taken from its place in the string, `name[13]`, which is tried on block 4."""
    return rename_with(lambda n: divmod(int(str(n)[0]) - 1, 3))


def rename_conv_first():
    """In most networks the norm comes after its convolution."""
    return rename_with(**{"in_layers.0": "conv1", "in_layers.2": "norm1"})


def rename_no_dropout():
    """`out_layers` is taken to be built as `in_layers` is, with its convolution at number 2: 3 is never replaced."""
    return rename_with(**{"out_layers.3": "out_layers.3"})


def rename_no_shortcut():
    """The table is made from the names of the first block, which has no skip_connection."""
    return rename_with(**{"skip_connection": "skip_connection"})


# 16.memory_plan

SECONDS = {"strips": 1, "float16": 2, "one at a time": 4}


def bytes_needed(weights, work, savings):
    work = dict(work)
    strips = work.pop("vae in strips")
    if "strips" in savings:
        work["vae"] = strips
    together = sum(weights.values()) + max(work.values())
    alone = max(weights[part] + work[part] for part in weights)
    return (alone if "one at a time" in savings else together) * (4 - 2 * ("float16" in savings))


def plan_by_sorting(weights, work, budget):
    sets = chain.from_iterable(combinations(SECONDS, n) for n in range(4))
    fitting = [s for s in sets if bytes_needed(weights, work, s) <= budget * 1e9]
    return set(min(fitting, key=lambda s: sum(map(SECONDS.get, s)))) if fitting else None


def plan_by_counting(weights, work, budget):
    for alone, half, strips in product((False, True), repeat=3):
        peaks = [work["text"], work["unet"], work["vae in strips"] if strips else work["vae"]]
        if alone:
            most = max(weights["text"] + peaks[0], weights["unet"] + peaks[1], weights["vae"] + peaks[2])
        else:
            most = weights["text"] + weights["unet"] + weights["vae"] + max(peaks)
        if most * (2 if half else 4) / 1e9 <= budget:
            return [n for n, used in (("strips", strips), ("float16", half), ("one at a time", alone)) if used]
    return None


def cheapest(needed, giga=1e9):
    """A plan that is right but for what it takes the need of a set to be."""

    def plan(weights, work, budget):
        for n in range(8):
            savings = {name for name, seconds in SECONDS.items() if n & seconds}
            if needed(weights, work, savings) <= budget * giga:
                return savings
        return None

    return plan


def plan_weights_only():
    """The figure of the lesson shows weights alone."""
    return cheapest(lambda weights, work, savings: bytes_needed(weights, dict.fromkeys(work, 0), savings))


def plan_unet_works():
    """The U-Net is the largest part, so its work must be the largest too."""
    return cheapest(lambda weights, work, s: bytes_needed(weights, work | {"vae": 0, "vae in strips": 0}, s))


def plan_sum_of_work():
    """Weights are added up, so the work is added up too."""

    def needed(weights, work, savings):
        busy = work["text"] + work["unet"] + work["vae in strips" if "strips" in savings else "vae"]
        all_work = {"text": busy, "unet": 0, "vae": 0, "vae in strips": 0}
        return bytes_needed(weights, work if "one at a time" in savings else all_work, savings)

    return cheapest(needed)


def plan_gib():
    """2**30 is what a GB was in the lecture on computers."""
    return cheapest(bytes_needed, 2**30)


def plan_half_weights():
    """"Half precision halves the weights", so the lesson's figure seems to say, and nothing else."""
    return cheapest(lambda weights, work, s: (
        bytes_needed(weights, work, s) + ("float16" in s) * 2 * max(work["text"], work["unet"],
        work["vae in strips" if "strips" in s else "vae"])))  # fmt: skip


def plan_separate_maxima():
    """max(weights) + max(work): both maxima taken, each by itself."""

    def needed(weights, work, savings):
        busy = max(work["text"], work["unet"], work["vae in strips" if "strips" in savings else "vae"])
        most = max(weights.values()) if "one at a time" in savings else sum(weights.values())
        return (most + busy) * (2 if "float16" in savings else 4)

    return cheapest(needed)


def plan_greedy():
    """A saving is added to those before until it fits, as one would by hand."""

    def plan(weights, work, budget):
        savings = set()
        for name in [None, *SECONDS]:
            savings |= {name} - {None}
            if bytes_needed(weights, work, savings) <= budget * 1e9:
                return savings
        return None

    return plan


def plan_fewest():
    """The fewest savings are taken for the cheapest."""

    def plan(weights, work, budget):
        for n in range(4):
            for savings in combinations(SECONDS, n):
                if bytes_needed(weights, work, savings) <= budget * 1e9:
                    return set(savings)
        return None

    return plan


RIGHT = {
    "16.read_table": [census_loop, census_passes],
    "16.find_eps": [find_by_setting, find_by_answers, find_by_text],
    "16.rename": [rename_table, rename_replacing],
    "16.memory_plan": [plan_by_sorting, plan_by_counting],
}
WRONG = {
    "16.read_table": [
        (census_out_width, "stands second. `attn1`"), (census_conv_out, "what goes into the network stands second"),
        (census_no_biases, "Biases are trained too"), (census_tensors, "These are its tensors"),
        (census_last, "Add to it"), (census_sums, "holds 320 * 4 * 3 * 3"),
    ],
    "16.find_eps": [
        (find_every_1e5, "no fault by itself"), (find_by_weights, "in no `state_dict`"),
        (find_downstream, "the SAME input"), (find_first, "Go on after the first"),
        (find_transformers_only, "Any norm may be the one"),
    ],
    "16.rename": [
        (rename_without_conv_in, "Number 0 is conv_in"), (rename_two_a_level, "three numbers and not two"),
        (rename_number_is_level, "counts all blocks in one row"), (rename_one_digit, "two digits"),
        (rename_conv_first, "The order here is norm"), (rename_no_dropout, "because of the dropout"),
        (rename_no_shortcut, "a look at the first block"),
    ],
    "16.memory_plan": [
        (plan_weights_only, "Weights are not all"), (plan_sum_of_work, "one after another"), (plan_gib, "7% more"),
        (plan_half_weights, "two bytes"), (plan_separate_maxima, "different parts"), (plan_greedy, "does not help"),
        (plan_fewest, "not the fewest savings"),
    ],
}  # fmt: skip
