"""How good predictions are: metrics, intervals over users, one row a figure, and the baselines they are held against."""
