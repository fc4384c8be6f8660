"""The query of the page on OMOP gives one row for each person, which the page's schema reads."""

import re
from pathlib import Path

import duckdb
import pytest

from dpsynth.cohort import Cohort
from dpsynth.schema import Schema

PAGE = (Path(__file__).parent.parent / "docs/how-to/omop-fhir.md").read_text(encoding="utf-8")
TABLES = """
create schema cdm;
create table cdm.person (person_id integer, gender_concept_id integer, year_of_birth integer);
insert into cdm.person values (1, 8507, 1950), (2, 8532, 1980), (3, 8532, 1990);
create table cdm.visit_occurrence
  (person_id integer, visit_occurrence_id integer, visit_concept_id integer, visit_start_date date);
insert into cdm.visit_occurrence values
  (1, 11, 9202, '2012-03-04'), (1, 10, 9202, '2010-01-02'), (2, 20, 9202, '2011-05-06'), (3, 30, 9201, '2011-05-06');
create table cdm.observation (person_id integer, visit_occurrence_id integer, observation_concept_id integer,
  value_as_concept_id integer, observation_date date, observation_id integer);
insert into cdm.observation values
  (1, 10, 4275495, 77, '2010-01-02', 2), (1, 10, 4275495, 78, '2010-01-02', 1), (1, 11, 4275495, 79, '2012-03-04', 3);
create table cdm.measurement (person_id integer, visit_occurrence_id integer, measurement_concept_id integer,
  value_as_number double, measurement_date date, measurement_id integer);
insert into cdm.measurement values (2, 20, 3004249, 131, '2011-05-06', 1);
create table cdm.condition_occurrence (person_id integer, condition_concept_id integer);
insert into cdm.condition_occurrence values (1, 201826), (1, 201826);
"""


@pytest.mark.parametrize("first", [True, False])
def test_the_query_gives_one_row_for_each_person(tmp_path: Path, first: bool) -> None:
    """Each person with a visit has one row, of the first visit; what others have done moves none of it."""
    (query,) = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
    schema = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[0]
    with duckdb.connect() as connection:
        connection.execute(TABLES)
        if not first:
            connection.execute("delete from cdm.person where person_id = 1")
        connection.execute(f"copy ({query}) to '{tmp_path / 'cohort.parquet'}' (format parquet)")
    rows = Cohort.read(tmp_path / "cohort.parquet", Schema.parse(schema)).plain_table().to_pylist()
    seen = {row["person_id"]: tuple(row.values())[1:] for row in rows}
    assert len(seen) == len(rows)
    assert seen.pop("2") == (8532, 31, None, 131, False)
    assert list(seen.values()) == ([(8507, 60, "78", None, True)] if first else [])
