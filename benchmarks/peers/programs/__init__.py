"""The programs of the peers: a worker and a client each. They run in the peers' own environments."""
