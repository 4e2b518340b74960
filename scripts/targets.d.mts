/** A platform that prebuilt addons are made for. */
export interface Target {
  file: string
  compiler: 'gcc' | 'mingw' | 'zig'
}

export const TARGETS: Record<string, Target>
