"""Playing trained policies: evaluations, paired ones, and videos.

What is played is a `qamx.evaluation.subject.Subject`, wherever it comes from.
"""
