"""What lies beside the package: image, compose file, workflows, dashboard and alerts, metadata of the distribution."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from evergallery import __version__
from evergallery.serving.metrics import GaugeValues, Metrics

ROOT = Path(__file__).parents[1]
SCHEMAS = {
    "compose.yaml": "vendor.compose-spec",
    ".github/workflows/test.yml": "vendor.github-workflows",
    ".github/workflows/nightly.yml": "vendor.github-workflows",
    ".github/workflows/release.yml": "vendor.github-workflows",
    ".github/dependabot.yml": "vendor.dependabot",
}


@pytest.fixture(scope="module")
def project() -> Any:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_makefile_names_what_is_there() -> None:
    words = re.sub(r"^#.*$", "", (ROOT / "Makefile").read_text(), flags=re.MULTILINE).split()
    named = [word for word in words if re.match(r"(tests|benchmarks|docs)/", word)]
    assert len(named) > 10
    assert [word for word in named if not (ROOT / word).exists()] == []


def test_the_image_is_linted() -> None:
    linter = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if linter is None:
        pytest.skip("hadolint is not installed")
    done = subprocess.run([linter, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_image_runs_as_nobody_and_says_how_it_is() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert any(line.startswith("USER ") and line != "USER root" for line in lines)
    assert any(line.startswith("HEALTHCHECK ") for line in lines)


@pytest.mark.parametrize(("file", "schema"), SCHEMAS.items())
def test_file_is_of_its_schema(file: str, schema: str) -> None:
    checker, testing = pytest.importorskip("check_jsonschema"), pytest.importorskip("click.testing")
    done = testing.CliRunner().invoke(checker.main, ["--builtin-schema", schema, str(ROOT / file)])
    assert done.exit_code == 0, done.output


def test_what_compose_mounts_is_there_and_no_password_is_written_down() -> None:
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    assert set(compose["services"]) == {"server", "database", "prometheus", "grafana"}
    for service in compose["services"].values():
        for volume in service["volumes"]:
            source = volume.partition(":")[0]
            if source.startswith("./") and source != "./deploy/token":
                assert (ROOT / source).exists(), source
        for name, value in service.get("environment", {}).items():
            if "PASSWORD" in name:
                assert value.startswith("${"), name


def known_metrics() -> set[str]:
    values = GaugeValues({"v1": 1}, "v1", ("refresh", 0.5), {"failed": 1}, ready=True, drift={})
    text = Metrics().read(values).decode()
    names = set(re.findall(r"^# TYPE (\w+)", text, re.MULTILINE))
    return names | {f"{name}_{part}" for name in names for part in ("bucket", "sum", "count", "total")}


@pytest.mark.parametrize(
    "file", ["deploy/grafana/dashboards/evergallery.json", "deploy/alerts.yml", "docs/operations.md"]
)
def test_metrics_that_are_asked_for_are_there(file: str) -> None:
    asked = set(re.findall(r"\bevergallery_\w+", (ROOT / file).read_text()))
    assert asked
    assert asked <= known_metrics()


def test_the_dashboard_is_whole() -> None:
    board = json.loads((ROOT / "deploy/grafana/dashboards/evergallery.json").read_text())
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"]) >= 10
    for panel in board["panels"]:
        assert panel["targets"]
        assert panel["datasource"]["uid"] == "prometheus"


def test_the_distribution_says_who_and_where(project: Any) -> None:
    assert {"Homepage", "Documentation", "Source", "Issues", "Changelog"} <= set(project["urls"])
    assert project["authors"]
    assert {f"Programming Language :: Python :: 3.{minor}" for minor in (11, 12, 13)} <= set(project["classifiers"])
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (cited["version"], cited["license"]) == (__version__, project["license"])
    assert cited["repository-code"] == project["urls"]["Source"]
    entry = dict(
        re.findall(r"(\w+)\s*= \{(.*)\}", (ROOT / "README.md").read_text().split("@software{")[1].split("```")[0])
    )
    assert [entry[name] for name in ("title", "version", "url")] == [
        cited[name] for name in ("title", "version", "repository-code")
    ]


def test_every_extra_is_in_all_and_named_by_the_readme(project: Any) -> None:
    extras = set(project["optional-dependencies"]) - {"all", "dev", "docs", "peers"}
    (everything,) = project["optional-dependencies"]["all"]
    assert set(everything.removeprefix("evergallery[").removesuffix("]").split(",")) == extras
    readme = (ROOT / "README.md").read_text()
    for extra in extras:
        assert f"`{extra}`" in readme


def test_a_server_needs_nothing_heavy_that_is_not_its_own_and_what_does_names_the_extra(tmp_path: Path) -> None:
    script = (
        "import sys\nfor heavy in ('matplotlib', 'sklearn', 'scipy', 'pytorch_metric_learning'): sys.modules[heavy] = None\n"
        "import evergallery.serving.app, evergallery.workspace, evergallery.methods, evergallery.demo.story\n"
        "from evergallery import methods\nmethods.Evergreen(), methods.CSD(), methods.DualTuning()\n"
        "from evergallery import Workspace\nfrom evergallery.errors import MissingExtraError\n"
        "from evergallery.data.glyphs import generate\nfrom evergallery.losses.pairs import metric_loss\n"
        f"shop = Workspace.create({str(tmp_path / 'shop')!r})\n"
        "for name, act in {'report': shop.report, 'losses': lambda: metric_loss('CircleLoss')}.items():\n"
        "    try: act()\n"
        "    except MissingExtraError as error: assert f'evergallery[{name}]' in str(error), error\n"
        "    else: raise SystemExit(name)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
