"""Write the JSON schema of params.yaml, with which an editor completes, explains and checks it as one types.

python scripts/params_schema.py    # into docs/params.schema.json, which params.yaml names
"""

from __future__ import annotations

import json
from pathlib import Path

from modelrepair.pipeline.artifacts import output_file
from modelrepair.settings.parameters import Parameters

PATH = Path(__file__).parents[1] / "docs/params.schema.json"


def schema() -> str:
    """The schema as text."""
    return json.dumps(Parameters.model_json_schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    with output_file(PATH) as file:
        file.write_text(schema(), encoding="utf-8")
