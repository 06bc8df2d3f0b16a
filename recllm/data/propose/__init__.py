"""From a raw file to a schema that runs: `profile` reads a sample, `pairs` compares columns, `words` knows names, `roles`, `outcomes` and
`fields` score what each column may be, `guess` leads them, `write` makes YAML and the table that is printed."""

from recllm.data.propose.guess import propose
from recllm.data.propose.write import next_step, table, write_yaml, yaml_text

__all__ = ["next_step", "propose", "table", "write_yaml", "yaml_text"]
