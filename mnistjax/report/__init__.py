"""What a person looks at: progress, figures, report.html."""
