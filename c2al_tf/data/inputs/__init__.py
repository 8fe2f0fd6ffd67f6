"""Raw columns to batches of (model inputs, labels, weight).

`features` encodes model inputs, `labels` makes auxiliary labels, `labelled_dataset` adds them to any dataset
(`labelling`, `label_weights` and `row_values` to one element), `packing` puts both into one matrix, `encoded` keeps it
for many passes, `sharding` divides rows among workers, `stream` orders rows, `dataset` combines them into one
`tf.data.Dataset`, `priors` counts the positives of each task.
"""
