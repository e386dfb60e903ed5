//! Resource files: YAML or JSON documents, read with positions, so that an error names its line.
