"""``python -m mesh_pipelines`` is ``mesh``."""

from mesh_pipelines.cli.main import main

main()
