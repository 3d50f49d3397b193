"""The plugin contract: hook specifications, declarations, the plugin manager, and the pipeline of strategies."""
