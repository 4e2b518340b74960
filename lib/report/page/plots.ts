/** Draws the charts of a page at the available width, and again when the width changes. */

export function mountPlots(charts: Readonly<Record<string, { draw: (width: number) => string }>>): void {
  let width = 0
  const draw = () => {
    for (const place of document.querySelectorAll<HTMLElement>('.plot[data-chart]')) {
      const room = Math.round(place.getBoundingClientRect().width)
      const chart = charts[place.dataset.chart ?? '']
      if (chart !== undefined && room > 40) place.innerHTML = chart.draw(room)
    }
  }
  new ResizeObserver(() => {
    // Drawing changes only the height, which needs no redraw.
    if (document.body.clientWidth === width) return
    width = document.body.clientWidth
    requestAnimationFrame(draw)
  }).observe(document.body)
}
