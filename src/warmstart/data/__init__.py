"""Tasks: where rows come from, what their columns mean, what is wrong with them, how they are split.

`task.load_task` is the door in, `prediction.inputs_for_prediction` the one for rows without labels,
`writing.write_table` the way out, `samples` the data sets that published packages carry. Nothing here knows a model.
"""
