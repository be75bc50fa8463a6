"""Cards of the networks: measured figures, drawings of real data flow, and a hand-written part that stays."""

import re
from collections import Counter
from itertools import combinations, pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from run_jobs import composed

from seglab.errors import ConfigError
from seglab.nets.base import Faithfulness
from seglab.nets.unet import UNet
from seglab.run.catalogue import names
from seglab.run.info import info
from seglab.run.zoo.architecture import draw
from seglab.run.zoo.cards import RESULTS, card, drawings, faithfulness_words, write_cards
from seglab.run.zoo.graph import IMAGE, LOGITS, Graph, trace
from seglab.run.zoo.layout import BOX_H, BOX_W, place
from seglab.run.zoo.measures import activation_bytes, n_multiply_adds, receptive_field
from seglab.run.zoo.networks import build_net, default_node, graph_of, node_of

ZOO = Path(__file__).resolve().parents[2] / "docs/zoo"
SVG = "{http://www.w3.org/2000/svg}"
QUICK = ("unet", "dcunet", "unetpp", "e1d3")
EACH = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in names("model")]


def first_dims(name: str) -> int:
    return 3 if graph_of(node_of(name), 2) is None else 2


def graph(name: str, dims: int | None = None) -> Graph:
    found = graph_of(node_of(name), dims or first_dims(name))
    assert found is not None
    return found


def tiny() -> UNet:
    return UNet(in_channels=1, num_classes=2, base_channels=2, n_poolings=1)


@pytest.mark.parametrize(
    "name", ["unet", pytest.param("unet3d", marks=pytest.mark.slow), pytest.param("vnet", marks=pytest.mark.slow)]
)
def test_a_card_has_the_figures_of_the_committed_one(name: str) -> None:
    committed = (ZOO / f"{name}.md").read_text("utf-8")
    for row in ("parameters", "multiply-adds"):
        (line,) = re.findall(rf"^\| {row} .*$", card(name), re.MULTILINE)
        assert line in committed and line.count("|") == 6


@pytest.mark.slow
def test_what_is_written_below_the_results_survives(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    by_hand = f"{RESULTS}\n\nDice 0.9, *by hand*\n\n{RESULTS}\n\n## Curves\n"
    (tmp_path / "unet3d.md").write_text(f"# old\n\n{by_hand}", "utf-8")
    info(composed("info", ["what=cards", f"output={tmp_path}", "only=[unet3d]"]))
    text = (tmp_path / "unet3d.md").read_text("utf-8")
    assert text.startswith("<!--") and text.endswith(f"\n\n{by_hand}") and "# old" not in text
    assert "1 card(s) written" in capsys.readouterr().out
    assert {file.name for file in tmp_path.iterdir()} == {"unet3d.md", "unet3d.svg", "index.md"}
    index = (tmp_path / "index.md").read_text("utf-8")
    assert index.endswith(f"\n{RESULTS}\n") and all(f"[{name}]({name}.md)" in index for name in names("model"))


def test_an_unknown_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="dcunet"):
        write_cards(tmp_path, ["dcunett"])
    assert not list(tmp_path.iterdir())


def test_every_word_for_faithfulness_is_explained() -> None:
    assert list(faithfulness_words()) == list(Faithfulness.__args__)
    assert all(len(meaning) > 20 for meaning in faithfulness_words().values())


def test_own_defaults_keep_what_makes_a_choice_of_a_class_another_network() -> None:
    assert default_node("r2attunet") == {"_target_": "seglab.nets.r2unet.R2UNet", "attention": True}
    assert default_node("r2unet") == {"_target_": "seglab.nets.r2unet.R2UNet", "attention": False}
    assert default_node("unet") == {"_target_": "seglab.nets.unet.UNet"}
    net = build_net(default_node("cascade"), 2)
    assert net is not None and net.num_classes == 3


def test_multiply_adds_are_those_counted_by_hand() -> None:
    encoder = 16 * 16 * 9 * (1 * 2 + 2 * 2) + 8 * 8 * 9 * (2 * 4 + 4 * 4)
    decoder = 8 * 8 * 4 * (4 * 2) + 16 * 16 * 9 * (4 * 2 + 2 * 2)
    assert n_multiply_adds(tiny(), (16, 16)) == encoder + decoder + 16 * 16 * 2 * 2


def test_activations_are_those_counted_by_hand_and_the_same_without_memory() -> None:
    full, half = 4 * 16 * 16, 4 * 8 * 8  # bytes of one channel in float32
    # image and two convolutions; pooled, its indices of 8 bytes, and two convolutions; joined and two convolutions
    by_hand = full * (1 + 2 + 2) + half * (2 + 2 * 2 + 4 + 4) + full * (4 + 2 + 2)
    assert activation_bytes(tiny(), (16, 16)) == by_hand
    assert activation_bytes(tiny().to("meta"), (16, 16)) == by_hand


def test_receptive_field_of_a_small_unet_is_that_found_by_hand() -> None:
    # the last two convolutions see 5 px, over at most 3 of half the size, of which two convolutions make 7; these are
    # 14 px, to which the first two convolutions add 4
    assert receptive_field(tiny()) == ((18, 18), True)


def test_the_field_of_a_cascade_is_that_of_its_networks_one_after_the_other() -> None:
    inner = {"_target_": "seglab.nets.unet.UNet", "_partial_": True, "base_channels": 2, "n_poolings": 1}
    node = {"_target_": "seglab.nets.cascade.Cascade", "first": inner, "second": inner}
    net = build_net(node, 2, device="cpu")
    assert net is not None
    (width, height), is_bounded = receptive_field(net)
    assert 32 <= width == height <= 18 + 18 - 1 and is_bounded


class Global(UNet):
    """Adds the mean of the image to every pixel."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return super().forward(image) + image.mean(dim=(2, 3), keepdim=True)


def test_the_field_of_a_network_that_sees_everything_is_not_bounded() -> None:
    net = Global(in_channels=1, num_classes=2, base_channels=1, n_poolings=1)
    assert receptive_field(net) == ((4096, 4096), False)


def test_unet_has_its_levels_and_its_skips() -> None:
    found = graph("unet")
    assert found.blocks[0].name == IMAGE and found.blocks[-1].name == LOGITS
    levels = {block.name: block.level for block in found.blocks}
    channels = {block.name: block.channels for block in found.blocks}
    assert [levels[f"encoder.{n}"] for n in range(5)] == [0, 1, 2, 3, 4]
    assert [channels[f"decoder.{n}"] for n in range(4)] == [128, 64, 32, 16]
    skips = {(f"encoder.{n}", f"decoder.{3 - n}") for n in range(4)}
    chain = [IMAGE, *(f"encoder.{n}" for n in range(5)), *(f"decoder.{n}" for n in range(4)), "head", LOGITS]
    assert set(found.edges) == skips | set(pairwise(chain))


@pytest.mark.slow
def test_data_flows_between_the_blocks_as_the_papers_say() -> None:
    def sources(name: str, block: str) -> set[str]:
        return {source for source, target in graph(name).edges if target == block}

    assert sources("unetpp", "nodes.0_3") == {"encoder.0", "nodes.0_1", "nodes.0_2", "nodes.1_2"}
    assert sources("full_attention_unet", "decoder.0") == {f"encoder.{n}" for n in range(5)}
    assert sources("dcunet", "decoder.3") == {"res_paths.0", "ups.3"}
    assert sources("implicit_unet", "decoder.levels.0") == {"encoder.4", "encoder.3"}
    assert len(graph("encoding_unet").edges) == len(graph("encoding_unet").blocks) - 1  # no skips
    assert graph("bsunet").supervised == {"encoder.dense"}
    assert sources("e1d3", LOGITS) == {f"decoders.{n}.head" for n in range(3)}  # drawn for 4 classes


@pytest.mark.parametrize("name", EACH)
def test_a_drawing_is_sound_and_has_one_box_per_block(name: str) -> None:
    for file, svg in drawings(name).items():
        found = graph(name, 3 if file.endswith("_3d.svg") else None)
        root = ElementTree.fromstring(svg)
        boxes = [node for node in root.iter(f"{SVG}g") if node.get("class") == "block"]
        titles = [box.findtext(f"{SVG}title", "").partition(":")[0] for box in boxes]
        assert Counter(titles) == Counter(block.name for block in found.blocks)
        assert len([node for node in root.iter(f"{SVG}path") if node.get("marker-end")]) == len(found.edges)
        assert root.findtext(f"{SVG}title") and root.findtext(f"{SVG}desc")
        assert len(svg) < 60_000 and "prefers-color-scheme:dark" in svg
        assert (ZOO / file).is_file()


@pytest.mark.parametrize("name", EACH)
def test_no_two_boxes_of_a_drawing_touch_and_data_flows_to_the_right(name: str) -> None:
    boxes = place(graph(name))
    for one, two in combinations(boxes.values(), 2):
        assert abs(one.x - two.x) > BOX_W or abs(one.y - two.y) > BOX_H
    assert all(boxes[source].x < boxes[target].x for source, target in graph(name).edges)


def test_skips_of_unet_are_horizontal() -> None:
    root = ElementTree.fromstring(drawings("unet")["unet.svg"])
    paths = {path.findtext(f"{SVG}title", ""): path.get("d", "") for path in root.iter(f"{SVG}path")}
    for level in range(4):
        assert re.fullmatch(r"M\S+ (\S+)L\S+ \1", paths[f"encoder.{level} to decoder.{3 - level}"])


def test_tracing_and_drawing_give_the_same_each_time() -> None:
    graphs = [trace(tiny().to("meta")) for _ in range(2)]
    assert graphs[0] == graphs[1] and len(graphs[0].blocks) == 6
    assert draw(graphs[0], "tiny", "") == draw(graphs[1], "tiny", "")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_committed_cards_are_up_to_date(tmp_path: Path) -> None:
    for file in ZOO.glob("*.md"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    write_cards(tmp_path)
    made = {file.name: file.read_text("utf-8") for file in tmp_path.iterdir()}
    committed = {file.name: file.read_text("utf-8") for file in ZOO.iterdir()}
    figures = committed.keys() - made.keys()
    assert made == {name: text for name, text in committed.items() if name not in figures}
    assert all(any(f"({figure})" in text for text in committed.values()) for figure in figures)
