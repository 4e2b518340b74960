/**
 * Updates part of a page in place and leaves unchanged elements alone, preserving focus, selection, and expanded
 * details.
 */

/** Elements managed by the chart script. */
const KEPT = '.plot, .read, .tools, .scrub, #ask'

export function morph(old: Element, fresh: Element): void {
  if (old.className !== fresh.className) old.className = fresh.className
  const [before, after] = [[...old.childNodes], [...fresh.childNodes]]
  // Elements are matched by id, since insertions and removals shift the positions of those that follow.
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
