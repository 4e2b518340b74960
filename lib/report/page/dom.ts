/** Elements of a page, and bodies of answers in parts, as its scripts use them. */

export function find<E extends HTMLElement = HTMLElement>(id: string): E {
  return document.getElementById(id) as E
}

export function make(tag: string, className: string, text: string): HTMLElement {
  const element = document.createElement(tag)
  if (className !== '') element.className = className
  element.textContent = text
  return element
}

/** Leaves unchanged text alone, so that screen readers do not read it again. */
export function setText(id: string, text: string): void {
  const element = find(id)
  if (element.textContent !== text) element.textContent = text
}

/** Asks with the question of the box `prompt` when Enter is pressed; with Shift, it is a new line. */
export function askOnEnter(ask: () => unknown): void {
  find('prompt').addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return
    event.preventDefault()
    ask()
  })
}

/** The parts of a body as they come, each of which ends with the separator. */
export async function* partsOf(
  body: ReadableStream<Uint8Array>,
  separator: string,
): AsyncGenerator<string, void, void> {
  const decoder = new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>
  const reader = body.pipeThrough(decoder).getReader()
  let rest = ''
  for (;;) {
    const { done, value } = await reader.read()
    if (done) return
    const parts = (rest + value).split(separator)
    rest = parts.pop() as string
    yield* parts
  }
}
