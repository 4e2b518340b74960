/** Error messages for failed Hub requests, with advice. */
import { HubError } from '../core/errors.js'
import { quote } from '../core/quote.js'

/** A request to the hub. */
export interface HubRequest {
  endpoint: string
  repo: string
  revision: string
  /** The requested file, if any. */
  path?: string | undefined
  hasToken: boolean
}

/** A problem that may be transient. */
export class Temporary extends Error {
  constructor(
    readonly problem: HubError,
    /** Number of attempts worth making. */
    readonly attempts: number,
    /** Delay requested by the server. */
    readonly afterMs = 0,
  ) {
    super(problem.message)
  }
}

const ATTEMPTS = 5
/** Unknown host, no route, or connection refused: retrying rarely helps. */
const ATTEMPTS_UNREACHABLE = 3
const WORTH_RETRYING = new Set([408, 425, 429, 500, 502, 503, 504])
const UNREACHABLE = new Set(['ENOTFOUND', 'EAI_AGAIN', 'ECONNREFUSED', 'ENETUNREACH', 'EHOSTUNREACH'])
const CERTIFICATE = /CERT|SELF_SIGNED|UNABLE_TO_VERIFY|ERR_TLS/

/** The error for an unsuccessful response. */
export async function refusal(response: Response, request: HubRequest): Promise<HubError | Temporary> {
  const { status, headers } = response
  await response.body?.cancel()
  const { endpoint, repo, revision, path } = request
  const words = headers.get('x-error-message')
  const said = words ? ` The hub says: ${quote(words)}.` : ''
  const details = { status, endpoint, repo, revision, ...(path === undefined ? {} : { path }) }
  const error = (reason: string, message: string) => new HubError(message, { reason, ...details })
  if (WORTH_RETRYING.has(status)) {
    const busy =
      status === 429
        ? `${endpoint} answers that too many requests were made (429)`
        : `${endpoint} answers with the status ${status}`
    const advice = status === 429 && !request.hasToken ? '; with HF_TOKEN set, the limit is higher' : ''
    const problem = error(
      status === 429 ? 'rate_limited' : 'server',
      `${busy}${advice}. Try again later; what was downloaded is kept.`,
    )
    return new Temporary(problem, ATTEMPTS, retryAfter(headers))
  }
  const code = headers.get('x-error-code')
  if (code === 'GatedRepo' || (status === 403 && code === null)) return error('gated', gated(request) + said)
  if (code === 'RevisionNotFound')
    return error('revision_not_found', `${repo} has no branch, tag or commit ${quote(revision)}.`)
  if (code === 'EntryNotFound')
    return error('file_not_found', `${repo} has no file ${quote(path ?? '')} at ${revision}.`)
  if (status === 401 || status === 403) return error('unauthorized', unauthorized(request) + said)
  if (status === 404)
    return error('not_found', `${endpoint} has no model or adapter ${repo} that you may see.${said}`)
  return error('server', `${endpoint} answers with the status ${status} for ${path ?? repo}.${said}`)
}

function gated({ endpoint, repo, hasToken }: HubRequest): string {
  const page = `${endpoint}/${repo}`
  return hasToken
    ? `${repo} is gated and your account has no access yet: accept its conditions on ${page} (a fine-grained token must also allow gated repositories).`
    : `${repo} is gated: log in and accept its conditions on ${page}, then set HF_TOKEN to an access token (from ${endpoint}/settings/tokens).`
}

/** The Hub answers 401 also for repositories that do not exist, so as not to reveal private ones. */
function unauthorized({ endpoint, repo, hasToken }: HubRequest): string {
  return hasToken
    ? `${endpoint} has no model or adapter ${repo} that your token may read: check the name, and the token in HF_TOKEN or from \`hf auth login\`, which may be expired or of another account.`
    : `${endpoint} has no public model or adapter ${repo}. Check the name; if it is private, set HF_TOKEN to an access token (from ${endpoint}/settings/tokens).`
}

function retryAfter(headers: Headers): number {
  const value = headers.get('retry-after')
  if (value === null) return 0
  const seconds = Number(value)
  const ms = Number.isFinite(seconds) ? seconds * 1000 : Date.parse(value) - Date.now()
  return Number.isFinite(ms) ? Math.max(0, ms) : 0
}

/** The error for a failed or broken connection. */
export function unreachable(url: string, cause: unknown): HubError | Temporary {
  const errno = errnoOf(cause)
  const host = new URL(url).origin
  const details = { reason: 'unreachable', endpoint: host, errno }
  if (CERTIFICATE.test(errno))
    return new HubError(
      `the certificate of ${host} is not trusted (${errno}); behind a proxy that replaces it, set NODE_EXTRA_CA_CERTS to the proxy's certificate.`,
      details,
      { cause },
    )
  const why = UNREACHABLE.has(errno) ? `${host} cannot be reached` : `the connection to ${host} broke off`
  const problem = new HubError(
    `${why} (${errno}). Check the network${proxyAdvice()}; HF_ENDPOINT sets a mirror, and HF_HUB_OFFLINE=1 uses only the cache.`,
    details,
    { cause },
  )
  return new Temporary(problem, UNREACHABLE.has(errno) ? ATTEMPTS_UNREACHABLE : ATTEMPTS)
}

function proxyAdvice(): string {
  const proxied = process.env.HTTPS_PROXY || process.env.https_proxy || process.env.ALL_PROXY
  return proxied && process.env.NODE_USE_ENV_PROXY !== '1'
    ? ' (Node 24 minds HTTPS_PROXY when NODE_USE_ENV_PROXY=1 is set)'
    : ''
}

function errnoOf(error: unknown): string {
  for (let at = error; at instanceof Error; at = at.cause) {
    const { code, errors } = at as Error & { code?: unknown; errors?: unknown[] }
    if (typeof code === 'string') return code
    // When several addresses were tried, use the first error.
    if (Array.isArray(errors) && errors.length > 0) return errnoOf(errors[0])
    if (at.cause === undefined) return at.message || 'unknown error'
  }
  return String(error)
}
