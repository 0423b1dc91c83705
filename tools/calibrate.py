"""What the oracle reads right and what it calls unreadable: the calibration table of docs/measurements.md.

Run as `python tools/calibrate.py [--vae FOLDER] [--n 10000]`.
"""

import argparse
import time

import torch
import trials

from minildm import oracle
from minildm.scenes import SHAPES, draw, render


def rows(n, vae=None):
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
    for maker in trials.NO_SCENE:
        yield unreadable(maker.__doc__.rstrip(".").lower(), maker(m, seed=12), 0.99)
    if vae is not None:
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
            yield right(f"VAE round trip, {what} ({psnr:.1f} dB)", back, None, wanted)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vae", help="a folder with a trained VAE, for its round trips")
    parser.add_argument("--n", type=int, default=10_000, help="pictures to read; a tenth of it for each kind to refuse")
    options = parser.parse_args()
    vae = None
    if options.vae:
        from minildm import weights

        vae = weights.load(options.vae)
    print("| pictures | number | counted | share | 95% interval | goal |\n|---|---|---|---|---|---|")
    for what, count, counted, (share, low, high), goal in rows(options.n, vae):
        goal = "" if goal is None else f"{goal}"
        print(f"| {what} | {count} | {counted} | {share:.4f} | {low:.4f} to {high:.4f} | {goal} |", flush=True)
    pictures = render(draw(2048, seed=14))
    torch.set_num_threads(1)
    start = time.process_time()
    oracle.read(pictures)
    print(f"\n{len(pictures) / (time.process_time() - start):.0f} pictures in a second of processor time, one thread.")


if __name__ == "__main__":
    main()
