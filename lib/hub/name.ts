/**
 * Names of models and adapters on the Hugging Face Hub: `owner/name`, optionally followed by a file path and
 * `@revision`. Such a name is also a valid relative path; existing paths take precedence.
 */
import { ConfigError } from '../core/errors.js'
import { quote } from '../core/quote.js'

export interface HubName {
  /** `owner/name` */
  repo: string
  /** A GGUF file, by its path in the repository; null for the repository itself. */
  file: string | null
  /** Branch, tag, or commit; null if not given. */
  revision: string | null
}

/** Owner or name: letters, digits, `_`, `-`, and `.`; `-` and `.` may not come first or last. */
const PART = String.raw`\w(?:[\w.-]*\w)?`
const NAME = new RegExp(String.raw`^(${PART}/${PART})((?:/[\w+-][\w .+-]*)+)?(?:@(.*))?$`, 's')
const LONGEST_REPO = 96
/** A path such as `folder/model.gguf` has the same form; no Hub repository has such an extension. */
const FILE_NAME =
  /\.(gguf|safetensors|jsonl?|ndjson|bin|pt|pth|ckpt|pkl|ya?ml|csv|parquet|txt|md|git|zip|gz)$/i
const COMMIT = /^[0-9a-f]{40}$/

/** Parses a Hub name; undefined for text that can only be a path. The revision is not validated here. */
export function parseHubName(text: string): HubName | undefined {
  const [, repo, rest, revision] = NAME.exec(text) ?? []
  if (repo === undefined || repo.length > LONGEST_REPO || /--|\.\./.test(repo)) return undefined
  const file = rest?.slice(1) ?? null
  // A GGUF file is the only kind of file in a repository that is a model by itself.
  if (file === null ? namesFile(repo) : !/^[^.].*\.gguf$/i.test(file)) return undefined
  if (file?.split('/').some((part) => part.startsWith('.'))) return undefined
  return { repo, file, revision: revision ?? null }
}

/** True if the extension shows that a name can only be a file. */
export function namesFile(name: string): boolean {
  return FILE_NAME.test(name)
}

/** True if a revision is a full commit hash, which is immutable. */
export function isCommit(revision: string): boolean {
  return COMMIT.test(revision)
}

/**
 * Validates a branch, tag, or commit for use in a URL and in a path below `refs/`.
 * @throws ConfigError for an invalid revision
 */
export function checkedRevision(revision: string): string {
  const plain = /^[\w][\w./+-]*$/.test(revision) && !/\.\.|\/\/|\/\.|[/.]$|\.lock$/.test(revision)
  if (plain && revision.length <= 255) return revision
  throw new ConfigError(
    `the revision ${quote(revision)} is not a valid git revision; expected a branch, tag, or commit, such as "main".`,
    { revision },
  )
}
