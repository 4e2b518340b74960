/**
 * Endpoint, cache, and credentials of the Hub, from the same environment variables as Hugging Face's own tools. The
 * cache is therefore shared with Python.
 */
import { readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join, resolve, sep } from 'node:path'
import type { Environment } from '../core/environment.js'
import { ConfigError } from '../core/errors.js'

export interface HubSettings {
  /** URL of the Hub or a mirror, without a trailing slash. */
  endpoint: string
  /** Folder that contains `models--owner--name`. */
  cacheDir: string
  /** Folder in which libraries store derived data, each in its own subfolder. */
  assetsDir: string
  /** Access token; sent only to the endpoint. */
  token: string | undefined
  /** True if the network must not be used. */
  offline: boolean
  /** True if the Hub is asked for a branch's commit even if it is cached. */
  refresh: boolean
  /** Maximum time without data from a server. */
  timeoutMs: number
}

const DEFAULT_ENDPOINT = 'https://huggingface.co'
const DEFAULT_TIMEOUT_S = 30

/**
 * Reads the settings.
 * @throws ConfigError when HF_ENDPOINT is not a URL, HF_HUB_DOWNLOAD_TIMEOUT is not a number, or the token has invalid
 * characters
 */
export function hubSettings(env: Environment = process.env): HubSettings {
  const home = env.HF_HOME || join(env.XDG_CACHE_HOME || '~/.cache', 'huggingface')
  const cache = env.HF_HUB_CACHE || env.HUGGINGFACE_HUB_CACHE || join(home, 'hub')
  return {
    endpoint: endpointFrom(env.HF_ENDPOINT),
    cacheDir: resolve(expanded(cache, env)),
    assetsDir: resolve(expanded(env.HF_ASSETS_CACHE || join(home, 'assets'), env)),
    token: isTrue(env.HF_HUB_DISABLE_IMPLICIT_TOKEN) ? undefined : tokenFrom(env, expanded(home, env)),
    offline: isTrue(env.HF_HUB_OFFLINE) || isTrue(env.TRANSFORMERS_OFFLINE),
    refresh: isTrue(env.LOWRANK_HUB_REFRESH),
    timeoutMs: 1000 * timeoutFrom(env.HF_HUB_DOWNLOAD_TIMEOUT),
  }
}

function isTrue(value: string | undefined): boolean {
  return /^(1|on|yes|true)$/i.test(value ?? '')
}

function endpointFrom(value: string | undefined): string {
  if (!value) return DEFAULT_ENDPOINT
  const url = URL.canParse(value) ? new URL(value) : undefined
  if (!url || !/^https?:$/.test(url.protocol) || url.username || url.password || url.search || url.hash)
    throw new ConfigError(
      `HF_ENDPOINT is ${JSON.stringify(value)}, expected an address such as ${DEFAULT_ENDPOINT}.`,
      { value },
    )
  return url.href.replace(/\/+$/, '')
}

function timeoutFrom(value: string | undefined): number {
  if (!value) return DEFAULT_TIMEOUT_S
  const seconds = Number(value)
  if (seconds > 0 && seconds <= 86_400) return seconds
  throw new ConfigError(
    `HF_HUB_DOWNLOAD_TIMEOUT is ${JSON.stringify(value)}, expected seconds, above 0 and at most 86400.`,
    { value },
  )
}

function tokenFrom(env: Environment, home: string): string | undefined {
  const variable = env.HF_TOKEN || env.HUGGING_FACE_HUB_TOKEN
  const file = expanded(env.HF_TOKEN_PATH || join(home, 'token'), env)
  const token = (variable ?? readIfThere(file))?.trim()
  if (!token) return undefined
  // HTTP headers allow only these characters. The token itself must not appear in messages.
  if (/^[\x21-\x7e]+$/.test(token)) return token
  throw new ConfigError(
    `${variable === undefined ? `the token in ${file}` : 'the token in HF_TOKEN'} has invalid characters; copy it again.`,
  )
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}

/** Expands `~` and `$NAME` in a path, as Python does for these variables; on Windows `~` is USERPROFILE, not HOME. */
function expanded(path: string, env: Environment): string {
  const [home, from] = sep === '/' ? [/^~(?=\/|$)/, env.HOME] : [/^~(?=[\\/]|$)/, env.USERPROFILE]
  return path
    .replace(home, () => from || homedir())
    .replace(
      /\$(?:\{(\w+)\}|(\w+))/g,
      (whole, braced: string, plain: string) => env[braced ?? plain] ?? whole,
    )
}
