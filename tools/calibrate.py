"""What the oracle reads right and what it calls unreadable: the calibration table of docs/measurements.md.

Run as `python tools/calibrate.py [--vae FOLDER] [--n 10000] [--record NAME]`. NAME is a file in docs/results:
"calibrate" for the oracle alone, "calibrate-vae" for the round trips of a VAE.
"""

import argparse
import time

import measurements
import torch
import trials

from minildm import oracle
from minildm.scenes import SHAPES, draw, render

NO_SCENE = {maker.__doc__.rstrip(".").lower(): maker for maker in trials.NO_SCENE}


def rows(n):
    """The table, line by line: (what, number, what is counted, (share, low, high), goal or None)."""
    scenes = trials.scenes_of(n, seed=11)
    clean = render(scenes)

    def right(what, pictures, goal, wanted=scenes):
        shares = oracle.accuracy(oracle.read(pictures), wanted, every_place=True)
        return what, len(pictures), "all right", shares["all"], goal

    def unreadable(what, pictures, goal):
        bad = int((~oracle.read(pictures).readable).sum())
        return what, len(pictures), "unreadable", oracle.wilson(bad, len(pictures)), goal

    yield right("clean renders", clean, 0.995)
    yield right("noise of 0.05 (0..1 scale)", trials.noisy(clean, 0.05), 0.98)
    yield right("the same, clamped to 0..1", trials.noisy(clean, 0.05).clamp(-1, 1), 0.98)
    yield right("blur of 0.5 pixels, noise of 0.01", trials.noisy(trials.blurred(clean, 0.5), 0.01), 0.97)
    yield right("blur of 0.7 pixels", trials.blurred(clean, 0.7), None)
    yield right("colours off by up to 0.05 a channel", trials.tinted(scenes), None)
    yield right("clean renders at 64 pixels", render(scenes[: n // 10], 64), None, scenes[: n // 10])
    m = n // 10
    mixed, wanted, _ = trials.shapes_mixed(m, seed=12, share=0.2)
    yield right("a fifth of the way to another shape", mixed, None, wanted)
    yield unreadable("half-way between two shapes, cross-faded", trials.shapes_mixed(m, seed=12)[0], 0.9)
    morphs, wanted, other = trials.shapes_mixed(m, seed=12, distances=True)
    yield unreadable("half-way between two shapes, signed distances", morphs, 0.9)
    names = [{SHAPES[a], SHAPES[b]} for a, b in zip(wanted.shape[:, 0].tolist(), other.tolist(), strict=True)]
    some = torch.tensor([pair != {"circle", "ring"} for pair in names])
    yield unreadable("the same without circle and ring, whose mean is a circle", morphs[some], None)
    yield unreadable("half-way between two colours", trials.colours_mixed(m, seed=12), 0.9)
    yield unreadable("half-way between two sizes", trials.sizes_mixed(m, seed=12), None)
    yield unreadable("a third object", trials.three(m, seed=12), 0.99)
    yield unreadable("a small object upon a large one", trials.stacked(m, seed=12), None)
    for name, maker in NO_SCENE.items():
        yield unreadable(name, maker(m, seed=12), 0.99)


def round_trips(vae, m):
    """For each kind of scene: (what, PSNR in dB, (share, low, high) of what is read rightly after the round trip)."""
    for what, options in (
        ("one object", {"objects": 1}),
        ("two objects", {"objects": 2}),
        ("one or two, one of a never-seen pair", {"held_out": True}),
    ):
        wanted = draw(m, seed=13, **options)
        pictures = render(wanted)
        with torch.no_grad():
            back = torch.cat([vae.decode(vae.encode(part)[0]) for part in pictures.split(64)])
        psnr = 10 * torch.log10(4 / (back - pictures).square().mean())
        yield what, psnr.item(), oracle.accuracy(oracle.read(back), wanted, every_place=True)["all"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vae", help="a folder with a trained VAE, for its round trips")
    parser.add_argument("--n", type=int, default=10_000, help="pictures to read; a tenth of it for each kind to refuse")
    parser.add_argument("--record", metavar="NAME", help="write what was measured into docs/results/NAME.json")
    options = parser.parse_args()
    print("| pictures | number | counted | share | 95% interval | goal |\n|---|---|---|---|---|---|")
    values, goals = {}, {}

    def tell(what, count, counted, figure, goal):
        share, low, high = values[what] = [round(part, 4) for part in figure]
        if goal is not None:
            goals[what] = {"at least": goal}
        print(f"| {what} | {count} | {counted} | {share:.4f} | {low:.4f} to {high:.4f} | {goal or ''} |", flush=True)

    for row in rows(options.n):
        tell(*row)
    values["no scene"] = {name: values.pop(name) for name in NO_SCENE}  # one row of the page shows them
    goals["no scene"] = [goals.pop(name) for name in NO_SCENE][0]
    if options.vae:
        from minildm import weights

        values, goals = {}, {"PSNR in dB": {"at least": 32}, "all right": {"at least": 0.99}}
        decibels = {}
        for what, psnr, figure in round_trips(weights.load(options.vae), options.n // 10):
            decibels[what] = round(psnr, 2)
            tell(f"VAE round trip, {what} ({psnr:.1f} dB)", options.n // 10, "all right", figure, None)
        values = {"PSNR in dB": decibels, "all right": dict(zip(decibels, values.values(), strict=True))}
    if options.record:
        command = "python tools/calibrate.py" + (f" --vae {options.vae}" if options.vae else "")
        measurements.record(options.record, command, values, goals)
    pictures = render(draw(2048, seed=14))
    torch.set_num_threads(1)
    start = time.process_time()
    oracle.read(pictures)
    print(f"\n{len(pictures) / (time.process_time() - start):.0f} pictures in a second of processor time, one thread.")


if __name__ == "__main__":
    main()
