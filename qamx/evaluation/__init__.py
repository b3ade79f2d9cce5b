"""Playing trained policies: evaluations, paired ones, and videos.

What is played is a `qamx.evaluation.policy_source.PolicySource`, wherever it comes from.
"""
