"""Reports: tables, figures and pages of runs, comparisons and leaderboards."""
