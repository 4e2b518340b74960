/**
 * Names of models and adapters on the Hugging Face hub: `owner/name`, a file of the repository after another
 * slash, and a revision after `@`. Such a name is also a relative path; existing paths take precedence.
 */
import { ConfigError } from '../core/errors.js'
import { quote } from '../core/quote.js'

export interface HubName {
  /** `owner/name` */
  repo: string
  /** A GGUF file of the repository, by its path there. */
  file: string | null
  /** Branch, tag or commit; null where none was named. */
  revision: string | null
}

/** Owner and name: letters, digits, `_`, `-` and `.`, of which the last two neither begin nor end it. */
const PART = String.raw`\w(?:[\w.-]*\w)?`
const NAME = new RegExp(String.raw`^(${PART}/${PART})((?:/[\w+-][\w .+-]*)+)?(?:@(.*))?$`, 's')
const LONGEST_REPO = 96
/** A path of one folder and one such file has the same form; the hub has no repositories that end so. */
const FILE_NAME =
  /\.(gguf|safetensors|jsonl?|ndjson|bin|pt|pth|ckpt|pkl|ya?ml|csv|parquet|txt|md|git|zip|gz)$/i
const COMMIT = /^[0-9a-f]{40}$/

/** The parts of a name, or undefined for what can only be a path. The revision is not judged yet. */
export function parseHubName(text: string): HubName | undefined {
  const [, repo, rest, revision] = NAME.exec(text) ?? []
  if (repo === undefined || repo.length > LONGEST_REPO || /--|\.\./.test(repo)) return undefined
  const file = rest?.slice(1) ?? null
  // A GGUF file is the only file of a repository that is a model by itself.
  if (file === null ? namesFile(repo) : !/^[^.].*\.gguf$/i.test(file)) return undefined
  if (file?.split('/').some((part) => part.startsWith('.'))) return undefined
  return { repo, file, revision: revision ?? null }
}

/** True if a name can only be that of a file, by its extension. */
export function namesFile(name: string): boolean {
  return FILE_NAME.test(name)
}

/** True if a revision is a full commit hash, which never changes its meaning. */
export function isCommit(revision: string): boolean {
  return COMMIT.test(revision)
}

/**
 * A branch, tag or commit that may stand in an address and in a path below `refs/`.
 * @throws ConfigError when it may not
 */
export function checkedRevision(revision: string): string {
  const plain = /^[\w][\w./+-]*$/.test(revision) && !/\.\.|\/\/|\/\.|[/.]$|\.lock$/.test(revision)
  if (plain && revision.length <= 255) return revision
  throw new ConfigError(
    `the revision ${quote(revision)} is not a valid git revision; expected a branch, tag, or commit, such as "main".`,
    { revision },
  )
}
