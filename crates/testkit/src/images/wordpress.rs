//! WordPress and its database as the public images have them: configured by environment variables, or by files that these name.

use std::path::{Path, PathBuf};

use skep_image::ImageBuilder;

use super::{busybox, with_program};
use crate::program;

/// The first start makes the system tables, root's password and a database; each later one finds them in the volume.
const MYSQL_ENTRYPOINT: &str = r#"#!/bin/sh
set -e
data=/var/lib/mysql
sql=/usr/share/mysql
if [ -n "$MYSQL_ROOT_PASSWORD_FILE" ]; then
    MYSQL_ROOT_PASSWORD=$(cat "$MYSQL_ROOT_PASSWORD_FILE")
fi
if [ -z "$MYSQL_ROOT_PASSWORD" ]; then
    echo "Database is uninitialized and password option is not specified" >&2
    exit 1
fi
if [ ! -e $data/initialized ]; then
    echo "Initializing database files"
    chown mysql:mysql $data
    {
        printf 'create database if not exists mysql;\nuse mysql;\nset @auth_root_socket=null;\n'
        cat $sql/mysql_system_tables.sql $sql/mysql_performance_tables.sql $sql/mysql_system_tables_data.sql
        printf "flush privileges;\ncreate user root@'%%' identified by '%s';\n" "$MYSQL_ROOT_PASSWORD"
        printf "grant all on *.* to root@'%%' with grant option;\n"
        [ -z "$MYSQL_DATABASE" ] || printf 'create database %s;\n' "$MYSQL_DATABASE"
    } | mariadbd --user=mysql --bootstrap --log-warnings=0
    touch $data/initialized
fi
exec mariadbd --user=mysql "$@"
"#;

/// Small where the defaults are for servers of their own.
const MYSQL_CONF: &str = "\
[mariadbd]
datadir=/var/lib/mysql
socket=/tmp/mysqld.sock
pid-file=/tmp/mysqld.pid
skip-name-resolve
innodb-buffer-pool-size=32M
innodb-log-file-size=8M
";

const APACHE_CONF: &str = "\
LoadModule mpm_prefork_module /usr/lib/apache2/modules/mod_mpm_prefork.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule dir_module /usr/lib/apache2/modules/mod_dir.so
LoadModule mime_module /usr/lib/apache2/modules/mod_mime.so
LoadModule php_module @PHP@
ServerName wordpress
Listen 80
User www-data
Group www-data
PidFile /tmp/apache2.pid
DefaultRuntimeDir /tmp
ErrorLog /dev/stderr
LogFormat \"%h %l %u %t \\\"%r\\\" %>s %b\" common
TypesConfig /etc/mime.types
DocumentRoot /var/www/html
DirectoryIndex index.php
StartServers 2
MinSpareServers 1
MaxRequestWorkers 10
<FilesMatch \\.php$>
    SetHandler application/x-httpd-php
</FilesMatch>
";

/// As the public image's: each setting from the variable, or from the file that `…_FILE` names.
const WP_CONFIG: &str = r#"<?php
function setting($name, $default) {
    $file = getenv($name . '_FILE');
    if ($file) return rtrim(file_get_contents($file), "\r\n");
    $value = getenv($name);
    return $value === false ? $default : $value;
}
define('DB_NAME', setting('WORDPRESS_DB_NAME', 'wordpress'));
define('DB_USER', setting('WORDPRESS_DB_USER', 'root'));
define('DB_PASSWORD', setting('WORDPRESS_DB_PASSWORD', ''));
define('DB_HOST', setting('WORDPRESS_DB_HOST', 'mysql'));
define('DB_CHARSET', 'utf8mb4');
define('DB_COLLATE', '');
$table_prefix = setting('WORDPRESS_TABLE_PREFIX', 'wp_');
// Nothing is asked for outside of the test's hosts.
define('WP_HTTP_BLOCK_EXTERNAL', true);
define('DISABLE_WP_CRON', true);
if (!defined('ABSPATH')) define('ABSPATH', __DIR__ . '/');
require_once ABSPATH . 'wp-settings.php';
"#;

fn bytes(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|e| panic!("pack {}: {e}", path.display()))
}

/// Files below a directory that are wanted; links lead to what they name.
fn files(dir: &Path, wanted: &dyn Fn(&Path) -> bool, out: &mut Vec<PathBuf>) {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|e| panic!("pack {}: {e}", dir.display()));
    let mut paths: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            files(&path, wanted, out);
        } else if path.is_file() && wanted(&path) {
            out.push(path);
        }
    }
}

fn has_extension(path: &Path, any: &[&str]) -> bool {
    path.extension().is_some_and(|e| any.iter().any(|a| e == *a))
}

/// MariaDB (package `mariadb-server-core`) on port 3306, by the variables `MYSQL_ROOT_PASSWORD[_FILE]` and `MYSQL_DATABASE`; its
/// data is in the volume `/var/lib/mysql`. `None` if it is not installed.
#[must_use]
pub fn mysql() -> Option<ImageBuilder> {
    let server = program("mariadbd")?;
    let share = Path::new("/usr/share/mysql");
    let mut wanted = Vec::new();
    files(&share.join("charsets"), &|p| has_extension(p, &["xml"]), &mut wanted);
    wanted.push(share.join("english/errmsg.sys"));
    for script in ["mysql_system_tables", "mysql_performance_tables", "mysql_system_tables_data"] {
        wanted.push(share.join(script).with_extension("sql"));
    }
    let mut image = with_program(busybox()?, &server);
    for path in wanted {
        image = image.file(&path.to_string_lossy(), bytes(&path), 0o644);
    }
    let image = image
        .file("/etc/mysql/my.cnf", MYSQL_CONF, 0o644)
        .file("/entrypoint.sh", MYSQL_ENTRYPOINT, 0o755)
        .dir("/var/lib/mysql", 0o755)
        .volume("/var/lib/mysql")
        .entrypoint(&["/entrypoint.sh"])
        .cmd(&[])
        .expose("3306/tcp");
    Some(image)
}

/// WordPress (packages `wordpress`, `wordpress-theme-twentytwentythree`, `libapache2-mod-php`) on port 80, by the variables
/// `WORDPRESS_DB_HOST`, `…_USER`, `…_NAME` and `…_PASSWORD[_FILE]`; without what only a browser asks for: scripts, styles, fonts,
/// pictures. `None` if it is not installed.
#[must_use]
pub fn wordpress() -> Option<ImageBuilder> {
    let (apache, modules, source) =
        (program("apache2")?, Path::new("/usr/lib/apache2/modules"), Path::new("/usr/share/wordpress"));
    if !source.join("wp-content/themes/twentytwentythree").exists() {
        return None;
    }
    let (mut php, mut extensions, mut pages) = (Vec::new(), Vec::new(), Vec::new());
    let named = |p: &Path, begin: &str| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(begin));
    files(modules, &|p| named(p, "libphp") && has_extension(p, &["so"]), &mut php);
    let php = php.pop()?;
    files(Path::new("/usr/lib/php"), &|p| has_extension(p, &["so"]), &mut extensions);
    let extension = |name: &str| extensions.iter().find(|p| p.file_stem().is_some_and(|s| s == name)).cloned();
    files(source, &|p| has_extension(p, &["php", "json", "html"]) && !p.ends_with("wp-config.php"), &mut pages);
    let mut image = with_program(with_program(busybox()?, &apache), &php);
    for name in ["mpm_prefork", "authz_core", "dir", "mime"] {
        image = with_program(image, &modules.join(format!("mod_{name}.so")));
    }
    let mut ini = String::from("memory_limit=128M\nlog_errors=On\nsendmail_path=/bin/true\n");
    for name in ["mysqlnd", "mysqli", "ctype", "tokenizer", "iconv"] {
        let path = extension(name)?;
        ini.push_str(&format!("extension={}\n", path.display()));
        image = with_program(image, &path);
    }
    for path in &pages {
        let below = path.strip_prefix(source).unwrap_or(path);
        image = image.file(&format!("/var/www/html/{}", below.display()), bytes(path), 0o644);
    }
    // Debian's PHP has no table of time zones of its own.
    for name in ["UTC", "Etc/UTC", "zone.tab"] {
        let path = Path::new("/usr/share/zoneinfo").join(name);
        image = image.file(&path.to_string_lossy(), bytes(&path), 0o644);
    }
    let version = php.file_stem()?.to_string_lossy().trim_start_matches("libphp").to_owned();
    let image = image
        .file("/var/www/html/wp-config.php", WP_CONFIG, 0o644)
        .file("/etc/apache2/apache2.conf", APACHE_CONF.replace("@PHP@", &php.to_string_lossy()), 0o644)
        .file("/etc/mime.types", "text/html html\n", 0o644)
        .file(&format!("/etc/php/{version}/apache2/php.ini"), ini, 0o644)
        .entrypoint(&[&apache.to_string_lossy(), "-D", "FOREGROUND"])
        .cmd(&[])
        .expose("80/tcp");
    Some(image)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::archive;
    use crate::skip;

    #[test]
    fn wordpress_and_its_database_pack_small() {
        let Some((mysql, wordpress)) = mysql().zip(wordpress()) else { return skip("needs mariadb-server-core and wordpress") };
        for image in [mysql, wordpress] {
            let size = archive(&image, "packed:1").len();
            assert!(size < 128 << 20, "{size}");
        }
    }
}
