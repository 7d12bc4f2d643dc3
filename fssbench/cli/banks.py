"""Commands that make and look at episode banks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fssbench.cli.app import app, messages, numbers, print_json, track
from fssbench.cli.options import Force, Json, Root, datasets_like

if TYPE_CHECKING:
    from fssbench.banks.bank import Bank
    from fssbench.protocol import Protocol


BANK = typer.Argument(help="The bank.")
Index = Annotated[bool, typer.Option("--index", help="Without images: small, needs masks only, shared in git.")]
Workers = Annotated[
    int | None, typer.Option("--workers", help="Processes that read and check images (default: one a core).")
]


@dataclass(frozen=True)
class NewBank:
    """The bank that a command writes, and what it says of it."""

    out: Annotated[Path | None, typer.Option("--out", help="The bank to write (default: a name after its source).")] = (
        None
    )
    workers: Workers = None
    force: Force = False
    json: Json = False

    def show(self, path: Path) -> None:
        """Say what the written bank holds."""
        from fssbench.banks.bank import open_bank

        with open_bank(path) as bank:
            _print_summary(bank, self.json)


@app.command("generate-episodes")
def generate_episodes(
    dataset: str = typer.Argument(
        autocompletion=datasets_like, help="A data set: pascal5i, coco20i, ..., module:Class, or your dataset.toml."
    ),
    root: Root = None,
    protocol: str = typer.Option("fssbench", help="How episodes are drawn and scored: fssbench, oslsm, hsnet, ..."),
    shots: list[str] | None = typer.Option(None, help="Numbers of shots (default 5; fewer come with it)."),
    ways: int = typer.Option(1, help="Classes an episode."),
    folds: list[str] | None = typer.Option(None, help="Folds (default: all)."),
    episodes: int | None = typer.Option(None, help="Episodes a fold and seed (default: the protocol's)."),
    seed: int | None = typer.Option(None, help="Seed (default: the protocol's)."),
    seeds: list[str] | None = typer.Option(None, help="Several seeds: one run each."),
    lists: str | None = typer.Option(None, help="Image list: voc-val, oslsm, hsnet, trainaug, no-novel, ..."),
    split: str | None = typer.Option(None, help="Class split: interleaved or consecutive (COCO), from-coco (PASCAL)."),
    negatives: bool = typer.Option(False, "--negatives", help="Queries may lack the classes asked for."),
    min_area: int | None = typer.Option(None, help="Pixels a class must cover (default: the protocol's)."),
    supports_per_query: int = typer.Option(1, help="Different support sets for each query."),
    auxiliary: int = typer.Option(0, help="Images of each class beside the supports, known by class only."),
    annotations: str | None = typer.Option(None, help="Weak supports to freeze: box,scribble,point,eroded-3,..."),
    skip_short_classes: bool = typer.Option(False, "--skip-short-classes", help="Leave out classes too small."),
    index: Index = False,
    *,
    new: NewBank,
) -> None:
    """Freeze the episodes of a benchmark into one bank."""
    from fssbench.banks.generate import Request, generate
    from fssbench.datasets.registry import open_under

    chosen = _protocol(protocol, dataset, episodes, seed, numbers(seeds))
    data, chosen = open_under(chosen, dataset, root, pool=lists, split=split)
    if negatives:
        chosen = chosen.with_negatives()
    if min_area is not None:
        chosen = chosen.but(min_area=min_area)
    request = Request(
        protocol=chosen,
        shots=tuple(numbers(shots) or (5,)),
        ways=ways,
        folds=None if folds is None else tuple(numbers(folds) or ()),
        repeats=supports_per_query,
        auxiliary=auxiliary,
        annotations=tuple(kind for kind in (annotations or "").split(",") if kind),
        skip_short=skip_short_classes,
    )
    path = new.out or Path("episodes") / _file_name(data.name, chosen, request.ways, request.draws, index)
    generate(data, request, path, index=index, force=new.force, progress=track, workers=new.workers)
    new.show(path)


@app.command("inspect")
def inspect(
    bank: Path = BANK,
    episodes: bool = typer.Option(False, "--episodes", help="One line an episode: query, class, supports."),
    fold: int = typer.Option(0, help="With --episodes: the fold."),
    shots: int | None = typer.Option(None, help="With --episodes: supports a way (default: all)."),
    json: Json = False,
) -> None:
    """Say what a bank holds."""
    from fssbench.banks.bank import open_bank
    from fssbench.banks.text import episode_lines

    with open_bank(bank) as opened:
        if episodes:
            for line in episode_lines(opened, fold, shots):
                typer.echo(line)
        else:
            _print_summary(opened, json)


@app.command("attach")
def attach_index(
    index: Path = typer.Argument(help="The index bank."),
    root: Root = None,
    *,
    new: NewBank,
) -> None:
    """Bind an index bank to local data: check every hash, then put the images in."""
    from fssbench.banks.attach import attach
    from fssbench.banks.bank import open_bank
    from fssbench.banks.corrupt import Corrupted
    from fssbench.banks.corruptions import Corruption
    from fssbench.datasets.registry import open_dataset

    path = new.out or index.with_name(
        index.name.replace(".index", "") if ".index" in index.name else f"full-{index.name}"
    )
    with open_bank(index) as opened:
        data = open_dataset(opened.dataset, root, pool=opened.pool)
        if opened.protocol.corruption:
            data = Corrupted(data, Corruption.parse(opened.protocol.corruption))
        attach(opened, data, path, force=new.force, progress=track, workers=new.workers)
    new.show(path)


@app.command("corrupt")
def corrupt_command(
    bank: Path = typer.Argument(help="The clean bank, with its images."),
    corruption: str = typer.Argument(help="gaussian_noise, defocus_blur, jpeg_compression, fog, brightness, ..."),
    severity: int = typer.Option(3, "--severity", help="1 to 5, as in ImageNet-C."),
    target: str = typer.Option("queries", "--of", metavar="queries|supports|both", help="Whose images."),
    seed: int = typer.Option(0, "--seed", help="Seed of the noise."),
    index: Index = False,
    *,
    new: NewBank,
) -> None:
    """Freeze a bank's episodes once more, with worse photographs of ImageNet-C's kinds."""
    from fssbench.banks.bank import open_bank
    from fssbench.banks.corrupt import corrupt
    from fssbench.banks.corruptions import Corruption

    wanted = Corruption(corruption, severity, target, seed)
    suffix = ".index.h5" if index else ".h5"
    path = new.out or bank.with_name(f"{bank.name.removesuffix('.h5')}-{target}-{corruption}-{severity}{suffix}")
    with open_bank(bank) as opened:
        corrupt(opened, wanted, path, index=index, force=new.force, progress=track, workers=new.workers)
    new.show(path)


@app.command("verify")
def verify(
    bank: Path = BANK,
    workers: Workers = None,
    json: Json = False,
) -> None:
    """Check every checksum, hash and episode of a bank; exit status 1 if anything is wrong."""
    from fssbench.banks.bank import open_bank
    from fssbench.banks.verify import problems
    from fssbench.datasets.reading import counted

    with open_bank(bank) as opened:
        found = list(problems(opened, track, workers=workers))
        if json:
            print_json({"bank": str(bank), "fingerprint": opened.fingerprint, "problems": found})
        elif not found:
            typer.echo(f"{bank}: all is well, {len(opened.image_ids)} images, fingerprint {opened.fingerprint}")
        else:
            typer.echo("\n".join(f"{bank}: {problem.removeprefix(f'{bank}: ')}" for problem in found[:20]))
            messages.print(f"{counted(len(found), 'problem')}: generate the bank again", markup=False)
    if found:
        raise typer.Exit(1)


@app.command("diff")
def diff(
    first: Path = typer.Argument(help="A bank."),
    second: Path = typer.Argument(help="Another bank."),
    json: Json = False,
) -> None:
    """Say in what two banks differ; exit status 1 if they do."""
    from fssbench.banks.bank import open_bank
    from fssbench.banks.compare import differences

    with open_bank(first) as a, open_bank(second) as b:
        lines = list(differences(a, b))
        same = a.fingerprint == b.fingerprint
        if json:
            print_json({"same_fingerprint": same, "differences": lines})
        else:
            for line in lines or [f"no difference, fingerprint {a.fingerprint}"]:
                typer.echo(line)
    if lines or not same:
        raise typer.Exit(1)


@app.command("convert-sbd")
def convert(
    sbd: Path = typer.Argument(help="Where SBD was unpacked (it holds cls/*.mat)."),
    root: Root = None,
) -> None:
    """Turn SBD's .mat files into VOC's SegmentationClassAug, VOC val kept out."""
    from fssbench.datasets.pascal5i import voc_folder
    from fssbench.datasets.registry import data_root
    from fssbench.datasets.sbd import convert_sbd

    voc = voc_folder(data_root(root))
    count = convert_sbd(sbd, voc, track)
    typer.echo(f"{voc / 'SegmentationClassAug'}: {count} training images, listed in trainaug.txt")


def _protocol(name: str, dataset: str, episodes: int | None, seed: int | None, seeds: list[int] | None) -> Protocol:
    from fssbench.errors import UsageError
    from fssbench.protocols import find_protocol

    if seed is not None and seeds is not None:
        raise UsageError("expected --seed or --seeds, found both: give one of them.")
    changes: dict[str, Any] = {}
    if episodes is not None:
        changes["episodes"] = episodes
    if seed is not None or seeds is not None:
        changes["seeds"] = tuple(seeds) if seeds is not None else (seed,)
    protocol = find_protocol(name, dataset)
    return protocol.but(**changes) if changes else protocol


def _file_name(dataset: str, protocol: Protocol, ways: int, draws: Sequence[int], index: bool) -> str:
    shots = "-".join(map(str, draws))
    name = f"{protocol.name}{'-negatives' if protocol.negatives else ''}"
    return f"{dataset}-{name}-{ways}way-{shots}shot{'.index' if index else ''}.h5"


def _print_summary(bank: Bank, as_json: bool) -> None:
    from fssbench.banks.text import summary

    facts = summary(bank)
    if as_json:
        print_json(facts)
        return
    width = max(map(len, facts))
    for key, value in facts.items():
        if key == "folds":
            for fold in value:
                typer.echo(f"{'fold ' + str(fold['fold']):{width}}  {fold['episodes']} episodes of {fold['classes']}")
        elif value not in ("", []):
            typer.echo(f"{key:{width}}  {', '.join(map(str, value)) if isinstance(value, list) else value}")
