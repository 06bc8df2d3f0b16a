"""The report as one HTML file without scripts or outside resources: `sections` and `figures` read results and frames, `plots` draws them,
`html` puts all of it into `page.html`."""
