/** `GET /`: the page of the service. It is served without the key, and holds no data. */
import { once } from '../core/once.js'
import { servicePage } from '../report/live/index.js'

const made = once(servicePage)

export function frontPage(): Response {
  const { html, policy } = made()
  return new Response(html, {
    headers: {
      'cache-control': 'no-store',
      'content-security-policy': `${policy}; frame-ancestors 'none'`,
      'content-type': 'text/html; charset=utf-8',
      'cross-origin-opener-policy': 'same-origin',
      'cross-origin-resource-policy': 'same-origin',
      'referrer-policy': 'no-referrer',
      'x-content-type-options': 'nosniff',
    },
  })
}

/** The address that opens the page with its key. @param url base URL for clients */
export function frontUrl(url: string, token: string): string {
  return `${new URL('/', url).href}#${new URLSearchParams({ token })}`
}
