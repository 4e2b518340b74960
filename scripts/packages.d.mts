/** A package that was laid out. */
export interface Package {
  name: string
  folder: string
  bytes: number
}

export const MOST_BYTES: number
export function layOut(out: string, targets: string[], addonOf?: (target: string) => string): Package[]
export function tooLarge(packages: Package[]): Iterable<string>
