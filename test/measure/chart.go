package main

import (
	"bytes"
	"fmt"
	"html"
)

// chart draws each group of figures as bars of one scale.
func chart(figures []figure) []byte {
	groups := map[string][]figure{}
	var order []string
	for _, f := range figures {
		if f.Group == "" {
			continue
		}
		if _, ok := groups[f.Group]; !ok {
			order = append(order, f.Group)
		}
		groups[f.Group] = append(groups[f.Group], f)
	}
	const width, label, row, gap = 900, 330, 26, 44
	var body bytes.Buffer
	y := 20
	for _, g := range order {
		most := 0.0
		for _, f := range groups[g] {
			most = max(most, f.P50)
		}
		fmt.Fprintf(&body, `<text x="10" y="%d" font-weight="bold">%s</text>`, y+14, html.EscapeString(g))
		y += row
		for i, f := range groups[g] {
			color := "#8a97a8"
			if i == 0 {
				color = "#2f6fde"
			}
			w := f.P50 / most * float64(width-label-130)
			fmt.Fprintf(&body, `<text x="20" y="%d">%s</text><rect x="%d" y="%d" width="%.1f" height="18" rx="3" fill="%s"/><text x="%.1f" y="%d">%.2f %s</text>`,
				y+14, html.EscapeString(f.Name), label, y, w, color, float64(label)+w+6, y+14, f.P50, f.Unit)
			y += row
		}
		y += gap - row
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="system-ui, sans-serif" font-size="13"><rect width="100%%" height="100%%" fill="white"/>%s</svg>`, width, y, body.String())
	return out.Bytes()
}
