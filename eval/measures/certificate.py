"""What the ranking measures were compared with: printed output of trec_eval, and the files it came from.

tests/eval/test_trec_eval_vectors.py reads the files, refuses others, and compares every value to the printed digits.
"""

from __future__ import annotations

from dataclasses import dataclass

SOURCE = "github.com/usnistgov/trec_eval, commit f4253652c8ef, folder test"
VALUES = 831
"""Printed values that were compared."""


@dataclass(frozen=True, slots=True)
class Fixture:
    """One run of trec_eval."""

    printed: str
    """The file with its output."""
    qrels: str
    run: str
    options: str = ""
    level: int = 1
    """Lowest grade that is relevant (-l)."""
    depth: int | None = None
    """Documents of a query that are looked at (-M)."""


FIXTURES = (
    Fixture("out.test", "qrels.test", "results.test"),
    Fixture("out.test", "qrels.test.with-comments", "results.test"),
    Fixture("out.comment.test", "qrels.comment.test", "results.comment.test.gz"),
    Fixture("out.test.a", "qrels.test", "results.test", "-m all_trec"),
    Fixture("out.test.aq", "qrels.test", "results.test", "-m all_trec -q"),
    Fixture("out.test.aqc", "qrels.test", "results.trunc", "-m all_trec -q -c"),
    Fixture("out.test.aqcM", "qrels.test", "results.trunc", "-m all_trec -q -c -M100", depth=100),
    Fixture("out.test.aql", "qrels.rel_level", "results.test", "-m all_trec -q -l2", level=2),
    Fixture("out.test.meas_params", "qrels.test", "results.test", "-q -m P.5,7,3 -m recall.20,2000 ..."),
)
DIGESTS = {
    "out.comment.test": "bf40b1314943d82bcc47d433748f0933a1e6f75c2aea678584dfb6c5f66544d6",
    "out.test": "eec0abb32bfb99fa78d239a3440b2c6cb01b06dead7e2338fd75b5c280d9eba0",
    "out.test.a": "8fd8f08c0b5c9064dc955263dc98ceed34b6d7421ebef363be0043256ccb1d68",
    "out.test.aq": "6e884d1ab060f5cede2e85490fb1f62e6ca664b8da99e7a8dfffeedefe9433eb",
    "out.test.aqc": "c4872c36186a26756867131a5dfe2c3e2aff001e1e9288a8584c5f4380b6ffc7",
    "out.test.aqcM": "7e858844afe8201d75a2720cfed75227df13f63ced9a400833547d89a144a96c",
    "out.test.aql": "8aaf42d1f0261a8e3f5fa0de2be7a8c46df719617565a3667482eaced620ff91",
    "out.test.meas_params": "4caf844f1c8b595299f8035d0aa96aa47c73681228690b7529d4a9224775a243",
    "qrels.comment.test": "64e7c58c4a1475164f1cb6f3e57eb160b4e5242e2a8095c4d11dfcd6a2eff6f5",
    "qrels.rel_level": "4430ec2026fcb964851e03bd73df21daf27e7ef4783d20ad63634182bc9df843",
    "qrels.test": "6c44a070a10bfb14b123cadc597227fc63c1acec109bc6d1e5a6bc4763906698",
    "qrels.test.with-comments": "939273bd229a25b6c12486a34fa69772695b8ae885d9ecd061666fb6c7ec38da",
    "results.comment.test.gz": "c4e93fefbc3483faa5cdfe0aa134cba8f0063241d01672685fb164dc78128b5a",
    "results.test": "69019319f6cb9ce861b4ad08d90898170d3d2b27da580fb3cba59e557ff2fd20",
    "results.trunc": "4a85d6b7b21b69b59728fa0aa7452199640f70d96529b86d0cca8f9c9292e438",
}
"""File -> sha256."""
