"""The end of a run for people and machines: report.json, report.html, the model card and the manifest.

One `Report` is built from the documents of the run; everything else is made from it. No torch, no store, no network.
"""
