# Source this (bash, zsh, sh): compilers, linkers and the loader then find this folder where they look for CANN.
_fusedattn_cann() {
  _fusedattn_root="@PREFIX@"
  if [ -n "${1:-}" ] && [ -e "$(dirname "$1")/.fusedattn-cann" ]; then
    _fusedattn_root="$(cd "$(dirname "$1")" && pwd)" # the folder was moved
  fi
  if [ -n "${ASCEND_HOME_PATH:-}" ] && [ ! -e "$ASCEND_HOME_PATH/.fusedattn-cann" ] && [ -e "$ASCEND_HOME_PATH/lib64/libascendcl.so" ]; then
    echo "fusedattn: ASCEND_HOME_PATH is $ASCEND_HOME_PATH, an installation of CANN; unset it first, for the two must not mix in one process" >&2
    return 1
  fi
  export ASCEND_HOME_PATH="$_fusedattn_root" ASCEND_TOOLKIT_HOME="$_fusedattn_root" TOOLCHAIN_HOME="$_fusedattn_root"
  export ASCEND_INSTALL_PATH="$_fusedattn_root" ASCEND_AICPU_PATH="$_fusedattn_root" ASCEND_OPP_PATH="$_fusedattn_root/opp"
  case ":${LD_LIBRARY_PATH:-}:" in
    *":$_fusedattn_root/lib64:"*) ;;
    *) export LD_LIBRARY_PATH="$_fusedattn_root/lib64${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" ;;
  esac
  case ":${CMAKE_PREFIX_PATH:-}:" in
    *":$_fusedattn_root:"*) ;;
    *) export CMAKE_PREFIX_PATH="$_fusedattn_root${CMAKE_PREFIX_PATH:+:$CMAKE_PREFIX_PATH}" ;;
  esac
}
if [ -n "${BASH_SOURCE:-}" ]; then
  _fusedattn_cann "$(readlink -f "$BASH_SOURCE")"
else
  _fusedattn_cann ""
fi
