"""From a raw file to a schema that runs: `profile` reads a sample, `raw` stages it, `decimals` reads its commas, `pairs` compares columns, `words` knows names, `roles`, `outcomes` and
`fields` score what each column may be, `events`, `lists`, `places` and `optional` know roles of more than one column, `guess` leads them, `write` makes YAML and the table that is printed."""

from recllm.data.propose.guess import propose
from recllm.data.propose.write import name_of_source, next_step, table, write_yaml, yaml_text

__all__ = ["name_of_source", "next_step", "propose", "table", "write_yaml", "yaml_text"]
