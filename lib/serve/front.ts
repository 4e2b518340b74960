/** `GET /`: the page of the service. It is served without the key, and holds no data. */
import { once } from '../core/once.js'
import { pageHeaders, servicePage } from '../report/live/index.js'

const made = once(servicePage)

export function frontPage(): Response {
  const { html, policy } = made()
  return new Response(html, { headers: pageHeaders(policy) })
}

/** The address that opens the page with its key. @param url base URL for clients */
export function frontUrl(url: string, token: string): string {
  return `${new URL('/', url).href}#${new URLSearchParams({ token })}`
}
