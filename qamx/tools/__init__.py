"""Looking at runs and machines from outside: what differs, what resumes, what is missing."""
