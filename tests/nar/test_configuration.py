"""What objects are made of, as plain values and back."""

from typing import Any

import pytest
from jsonargparse import ArgumentParser

from nar.configuration import made, plain
from nar.processor import Processor
from nar.processors import MPNN, PGN, TripletGMPNN
from nar.processors.reductions import Softmax

PGN_ARGUMENTS = plain(PGN())["init_args"]
FIXED = {"senders", "mask_decoders"}  # by an MPNN


@pytest.mark.parametrize(
    ("processor", "changed"),
    [
        (MPNN(), {}),
        (MPNN(16, reduction="mean"), {"hidden_dim": 16, "reduction": "mean"}),
        (TripletGMPNN(), {"triplet_dim": 8, "gated": True}),
        (TripletGMPNN(gated=False, layer_norm=False), {"triplet_dim": 8, "layer_norm": False}),
        (MPNN(4, reduction=["max", Softmax(2.0)]), {"hidden_dim": 4, "reduction": ["max", plain(Softmax(2.0))]}),
    ],
    ids=["MPNN", "MPNN of some settings", "TripletGMPNN", "TripletGMPNN of some settings", "MPNN of two reductions"],
)
def test_settings_that_a_base_class_takes_are_kept_with_its_defaults(
    processor: Processor, changed: dict[str, Any]
) -> None:
    expected = {name: value for name, value in {**PGN_ARGUMENTS, **changed}.items() if name not in FIXED}
    assert plain(processor) == {"class_path": f"nar.processors.{type(processor).__name__}", "init_args": expected}
    given = plain(processor)
    assert plain(made(given, Processor)) == given == plain(processor)


def test_a_subclass_that_takes_fewer_arguments_keeps_no_others() -> None:
    class Small(PGN):
        def __init__(self) -> None:
            super().__init__(16)

    assert plain(Small())["init_args"] == {}


@pytest.mark.parametrize("kind", [MPNN, TripletGMPNN])
def test_the_command_line_knows_the_settings_that_a_base_class_takes(
    kind: type[PGN], capsys: pytest.CaptureFixture[str]
) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--processor", type=Processor)
    with pytest.raises(SystemExit):
        parser.parse_args([f"--processor.help={kind.__name__}"])
    text = capsys.readouterr().out
    assert {name for name in PGN_ARGUMENTS if f"  --processor.{name} " in text} == PGN_ARGUMENTS.keys() - FIXED
    chosen = ["--processor", kind.__name__, "--processor.hidden_dim", "16", "--processor.reduction", "sum"]
    processor = parser.instantiate(parser.parse_args(chosen)).processor
    assert type(processor) is kind
    assert plain(processor)["init_args"] == {**plain(kind(16))["init_args"], "reduction": "sum"}
    several = parser.parse_args([*chosen, "--processor.reduction", "[max, recurrent]"])
    assert plain(parser.instantiate(several).processor)["init_args"]["reduction"] == ["max", "recurrent"]
    wrong_reductions = (["--processor.reduction", x] for x in ("median", "[max, median]"))
    for wrong in (["--processor.senders", "self"], *wrong_reductions):
        with pytest.raises(Exception, match=wrong[0].rpartition(".")[2]):
            parser.parse_args([*chosen, *wrong])


@pytest.mark.parametrize("module", ["deep_sets.DeepSets", "gatv2.GATv2", "mpnn.MPNN", "triplet_gmpnn.TripletGMPNN"])
@pytest.mark.filterwarnings("ignore:nar.processors.* is now:DeprecationWarning")
def test_a_class_path_of_an_earlier_release_still_makes_its_object(module: str) -> None:
    value = {"class_path": f"nar.processors.{module}", "init_args": {"hidden_dim": 16}}
    processor = made(value, Processor)
    assert plain(processor)["class_path"] == f"nar.processors.{module.partition('.')[2]}"
    assert processor.hidden_dim == 16
