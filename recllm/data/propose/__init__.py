"""From a raw file to a schema that runs: `profile` reads a sample, which `raw` stages and `decimals` rewrites; `pairs` compares columns,
`words` knows names; `roles`, `outcomes` and `fields` score what each column may be, `optional`, `events`, `lists` and `places` know roles
that few logs have; `guess` leads them, `write` makes YAML and the table that is printed."""

from recllm.data.propose.guess import propose
from recllm.data.propose.write import name_of_source, next_step, table, write_yaml, yaml_text

__all__ = ["name_of_source", "next_step", "propose", "table", "write_yaml", "yaml_text"]
