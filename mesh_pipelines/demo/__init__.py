"""New York's 2013 flights as event streams: the replay behind the demo mesh."""
