"""S13, off-site to a new country: the provider answers the declared name with a region elsewhere."""

from benchmarks.detection.scenarios.play import Expected, Scenario
from benchmarks.detection.scenarios.stage import Stage, Take, Tape, plant_time
from examples.plant.day import NAMES


def attack(stage: Stage) -> Tape:
    """Three nights to the lake as ever, then the same name is in the provider's other region."""
    return story(stage, "lake-us")


def twin(stage: Stage) -> Tape:
    """The provider adds an address under the declared name."""
    return story(stage, "lake-2")


def story(stage: Stage, elsewhere: str) -> Tape:
    """Uploads to the lake, and then one to ``elsewhere``."""
    usual, tape = upload(stage, "lake"), Tape()
    for day in (3, 4, 5):
        tape.add(usual, plant_time(f"2026-04-0{day} 03:20"), story=False)
    return tape.add(upload(stage, elsewhere), plant_time("2026-04-06 03:20"))


def upload(stage: Stage, to: str) -> Take:
    """The nightly upload, resolved first."""
    with stage.take() as take:
        stage.upload("mw", NAMES["lake"], stage.chance.randint(60_000, 160_000), to=to, account="svc_lake")
    return take


SCENARIO = Scenario(
    "S13", "off-site to a new country", attack, twin,
    (Expected("new-country", "where", r"lake in DE -> lake \(198\.51\.100\.140\) in US", immediate=True),),
    attacked="the declared name resolves to the provider's region in another country",
    benign="the provider adds an address under the declared name",
)  # fmt: skip
