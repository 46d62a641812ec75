"""The code location of the domain ``insights``: its contracts are all there is to it."""

from mesh_pipelines.orchestration.definitions import of_folder

defs = of_folder(__file__)
