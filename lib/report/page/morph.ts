/** Brings a part of a page up to date, and leaves alone what has not changed: focus, selection, and what is unfolded. */

/** Parts that the script of the charts keeps itself. */
const KEPT = '.plot, .read, .tools, .scrub, #ask'

export function morph(old: Element, fresh: Element): void {
  if (old.className !== fresh.className) old.className = fresh.className
  const [before, after] = [[...old.childNodes], [...fresh.childNodes]]
  // A part that comes or goes moves those behind it: they are found again by their ids.
  const named = new Map(
    before.flatMap((node) => (node instanceof Element && node.id ? [[node.id, node]] : [])),
  )
  for (const [index, node] of after.entries()) {
    const there = old.childNodes[index]
    const same = node instanceof Element && node.id ? named.get(node.id) : there
    if (same === undefined || !isAlike(same, node)) {
      if (there === undefined) old.append(node)
      else if (there instanceof Element && there.id && fresh.querySelector(`:scope > #${there.id}`))
        there.before(node)
      else there.replaceWith(node)
      continue
    }
    if (same !== there) old.insertBefore(same, there ?? null)
    if (same instanceof Element) {
      if (!same.matches(KEPT)) morph(same, node as Element)
    } else if (same.nodeValue !== node.nodeValue) same.nodeValue = node.nodeValue
  }
  while (old.childNodes.length > after.length) old.lastChild?.remove()
}

function isAlike(a: Node, b: Node): boolean {
  return a.nodeName === b.nodeName && (!(a instanceof Element) || a.id === (b as Element).id)
}
